"""Bodies and synapses: a loop over single bodies and single synapses, and what the network types connect."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsml.errors import UserError
from vsml.learners import BodiesSynapses, bodies_synapses
from vsml.sparsity import Random
from vsml.tasks import Feedback, TaskSpec

SPEC = TaskSpec((2, 2), 3, length=5, batch=2)
SQUARE = TaskSpec((4,), 4, length=5, batch=2, feedback=())
LEARNERS = {
    "layered": (BodiesSynapses("layered", hidden=(3, 2)), SPEC),
    "two ways": (BodiesSynapses("two_way", hidden=(3,), ticks=3), SPEC),
    "recurrent": (BodiesSynapses("recurrent", hidden=(3,), reduction="mean"), SPEC),
    "sparse": (BodiesSynapses("recurrent", hidden=(3,), sparsity=Random(0.5), message_size=1), SPEC),
    "visible": (BodiesSynapses("recurrent", hidden=(3,), visible=True), SQUARE),
    "visible alone": (BodiesSynapses("recurrent", hidden=(), visible=True), SQUARE),
    "visible and back": (BodiesSynapses("two_way", hidden=(3,), visible=True), SQUARE),
    "with reward": (BodiesSynapses("two_way", hidden=()), dataclasses.replace(SPEC, feedback=("error", "reward"))),
    "bounded": (BodiesSynapses("layered", hidden=(), output_bound=0.5), SPEC),
}


def sig(x):
    return 1 / (1 + np.exp(-x))


class Twin:
    """One stream, body by body and synapse by synapse."""

    def __init__(self, learner, params, state, spec):
        self.learner, self.spec = learner, spec
        self.params = jax.tree.map(np.asarray, params)
        self.sizes = learner.groups(spec)
        self.group = np.repeat(np.arange(len(self.sizes)), self.sizes)
        self.bodies = [np.zeros(learner.body_size) for _ in self.group]
        self.synapses = []  # source, target, vector
        self.fan_in = np.zeros(len(self.group))
        for projection, values in zip(learner.projections(spec), state.synapses, strict=True):
            fan_in = np.zeros(len(self.group))
            wiring = projection.wiring
            for k in range(wiring.units):
                i, j = projection.source.start + wiring.input_of[k], projection.target.start + wiring.output_of[k]
                self.synapses.append([i, j, np.asarray(values)[:, 0, k], fan_in])
                fan_in[j] += 1

    def type_of(self, neuron):
        return self.params["types"][:, self.group[neuron]]

    def move(self, entering):
        heard = [np.zeros(self.learner.message_size) for _ in self.bodies]
        for i, j, s, fan_in in self.synapses:
            sent = self.params["message"].T @ np.concatenate([self.bodies[i], self.type_of(i)])
            scale = fan_in[j] ** {"mean": -1.0, "sqrt": -0.5}[self.learner.reduction]
            heard[j] += scale * s[: self.learner.message_size] * sent
        rule, moved = self.params["body"], []
        for j, body in enumerate(self.bodies):
            u = np.concatenate([heard[j], entering[j], body, self.type_of(j)])
            gate = sig(rule["gate"].T @ u + rule["gate_b"][:, 0])
            moved.append((1 - gate) * body + gate * np.tanh(rule["change"].T @ u + rule["change_b"][:, 0]))
        self.bodies = moved

    def entering(self, x, answers):
        channels = np.zeros((len(self.bodies), 4))
        channels[: x.size, 0] = x.ravel()
        for channel, kind in enumerate(("error", "target", "reward"), 1):
            channels[self.outputs(), channel] = answers.get(kind, 0.0)
        return channels

    def outputs(self):
        first = 0 if self.learner.visible else len(self.bodies) - self.spec.num_outputs
        return np.arange(first, first + self.spec.num_outputs)

    def predict(self, x):
        for _ in range(self.learner.ticks):
            self.move(self.entering(x, {}))
        read = np.array([self.params["output"][:, 0] @ self.bodies[j] for j in self.outputs()])
        read, bound = read + self.params["output_b"][0, 0], self.learner.output_bound
        return read if bound is None else bound * np.tanh(read / bound)

    def learn(self, x, answers):
        if answers:
            self.move(self.entering(x, answers))
        rule = self.params["synapse"]
        for synapse in self.synapses:
            i, j, s, _ = synapse
            source, target = (np.concatenate([self.bodies[n], self.type_of(n)]) for n in (i, j))
            known = rule["own"].T @ s + rule["source"].T @ source + rule["target"].T @ target + rule["b"][:, 0]
            known += (rule["source_factor"].T @ source) * (rule["target_factor"].T @ target)
            hidden = np.tanh(known)
            gate = sig(rule["gate"].T @ hidden + rule["gate_b"][:, 0])
            synapse[2] = s + gate * np.tanh(rule["change"].T @ hidden + rule["change_b"][:, 0])


@pytest.fixture(params=["all at once", "source by source", "example by example"])
def order(request, monkeypatch):
    """How synapses are updated: large networks are not needed to see all ways."""
    if request.param != "all at once":
        monkeypatch.setattr(bodies_synapses, "AT_ONCE", 0)
    if request.param == "example by example":
        monkeypatch.setattr(bodies_synapses, "EXAMPLES_AT_ONCE", 0)


@pytest.mark.usefixtures("order")
@pytest.mark.parametrize(("learner", "spec"), LEARNERS.values(), ids=LEARNERS)
def test_equals_a_loop_over_bodies_and_synapses(learner, spec):
    params = jax.tree.map(lambda leaf: leaf + 0.1, learner.init(jax.random.key(0), spec))  # no offset is 0
    state = learner.initial_state(params, jax.random.key(1), spec)
    twin = Twin(learner, params, state, spec)
    draw = np.random.default_rng(0).normal
    for _ in range(3):
        x = draw(size=(2, *spec.input_shape)).astype(np.float32)
        answers = {kind: draw(size=(2, spec.num_outputs) if kind != "reward" else 2) for kind in spec.feedback}
        state, outputs = learner.predict(params, state, jnp.asarray(x))
        np.testing.assert_allclose(outputs[0], twin.predict(x[0]), atol=1e-5)
        state = learner.learn(
            params, state, jnp.asarray(x), Feedback(**{k: jnp.asarray(v) for k, v in answers.items()})
        )
        twin.learn(x[0], {kind: answer[0] for kind, answer in answers.items()})
        np.testing.assert_allclose(state.bodies[:, 0].T, np.array(twin.bodies), atol=1e-5)
        own = np.concatenate([values[:, 0].T for values in state.synapses])
        np.testing.assert_allclose(own, np.array([s for _, _, s, _ in twin.synapses]), atol=1e-5)


@pytest.mark.parametrize("examples_at_once", [bodies_synapses.EXAMPLES_AT_ONCE, 0])
def test_source_by_source_has_the_same_meta_gradient(examples_at_once, monkeypatch):
    learner, spec = LEARNERS["two ways"]
    params = learner.init(jax.random.key(0), spec)
    state = learner.initial_state(params, jax.random.key(1), spec)
    x = jax.random.normal(jax.random.key(2), (2, *spec.input_shape))

    def loss(params, state):
        for _ in range(2):
            state = learner.learn(params, learner.predict(params, state, x)[0], x, Feedback(error=jnp.ones((2, 3))))
        return learner.predict(params, state, x)[1].sum()

    whole = jax.grad(loss, argnums=(0, 1))(params, state)
    monkeypatch.setattr(bodies_synapses, "AT_ONCE", 0)
    monkeypatch.setattr(bodies_synapses, "EXAMPLES_AT_ONCE", examples_at_once)
    rows = jax.grad(loss, argnums=(0, 1))(params, state)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), rows, whole)


def test_without_a_choice_neurons_that_see_answer_where_tasks_have_as_many_outputs():
    for spec in (SPEC, SQUARE):
        chosen, told = (BodiesSynapses(visible=visible) for visible in (None, spec is SQUARE))
        assert chosen.groups(spec) == told.groups(spec)
        params = chosen.init(jax.random.key(0), spec)
        assert params["types"].shape[1] == 3  # one set of parameters for both
        state = chosen.initial_state(params, jax.random.key(1), spec)
        _, outputs = chosen.predict(params, state, jnp.ones((2, *spec.input_shape)))
        assert outputs.shape == (2, spec.num_outputs)


@pytest.mark.parametrize(
    ("network", "hidden", "lack"),
    [
        ("layered", (3,), "leads nowhere back"),
        ("layered", (), "no hidden neurons"),
        ("two_way", (), "no hidden neurons"),
    ],
)
def test_visible_neurons_that_would_hear_nothing_are_refused(network, hidden, lack):
    with pytest.raises(UserError, match=rf"{lack}.*set network to 'recurrent', or to 'two_way' with hidden layers"):
        BodiesSynapses(network, hidden=hidden, visible=True).groups(SQUARE)


def test_frozen_synapses_stay_and_bodies_move():
    learner = BodiesSynapses(visible=True, plastic=False)
    params = learner.init(jax.random.key(0), SQUARE)
    state = learner.initial_state(params, jax.random.key(1), SQUARE)
    seen, _ = learner.predict(params, state, jnp.ones((2, 4)))
    learned = learner.learn(params, seen, jnp.ones((2, 4)), Feedback())
    np.testing.assert_array_equal(learned.synapses[0], state.synapses[0])
    assert np.abs(learned.bodies).max() > 0


@pytest.mark.parametrize(
    ("network", "pairs"),
    [("layered", 4 * 3 + 3 * 3), ("two_way", 2 * (4 * 3 + 3 * 3)), ("recurrent", 10**2)],
)
def test_network_types_connect_what_they_say(network, pairs):
    learner = BodiesSynapses(network, hidden=(3,))
    assert learner.describe(SPEC) == {"bodies": 10, "synapses": pairs}
    assert BodiesSynapses(hidden=(3,), visible=True).describe(SQUARE) == {"bodies": 7, "synapses": 49}


def test_examples_of_a_batch_are_streams_of_their_own():
    learner = BodiesSynapses(hidden=(), visible=True)
    params = learner.init(jax.random.key(0), SQUARE)
    state = learner.initial_state(params, jax.random.key(1), SQUARE)
    x = jnp.array([[1.0, 1, 1, 1], [1.0, -1, 1, -1]])
    both = learner.learn(params, learner.predict(params, state, x)[0], x, Feedback())
    again = learner.learn(params, learner.predict(params, state, x[::-1])[0], x[::-1], Feedback())
    np.testing.assert_allclose(both.synapses[0][:, 0], again.synapses[0][:, 1], atol=1e-6)
    assert np.abs(both.synapses[0][:, 0] - both.synapses[0][:, 1]).max() > 1e-3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"body_size": 0}, "body_size is 0: set it to 1 or more"),
        ({"ticks": 0}, "ticks is 0: set it to 1 or more"),
        ({"message_size": 3}, "message_size is 3, but each channel needs an entry of the synapse, which has 2"),
        ({"hidden": (0,)}, r"hidden is \[0\]: give every hidden layer 1 neuron or more"),
        ({"synapse_std": -1.0}, "synapse_std is -1.0: set it to 0 or more"),
        ({"output_bound": 0.0}, "output_bound is 0.0"),
    ],
)
def test_fields_out_of_range_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        BodiesSynapses(**fields)


def test_visible_networks_need_as_many_outputs_as_inputs():
    with pytest.raises(UserError, match="these tasks have 4 inputs and 3 outputs: set it to False"):
        BodiesSynapses(visible=True).init(jax.random.key(0), SPEC)
