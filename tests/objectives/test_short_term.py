"""Remembering: the gradient of each variant against its definition, written out step by step."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from noise_tasks import NoiseTasks

from vsml.errors import UserError
from vsml.learners import BodiesSynapses
from vsml.learners.unroll import unroll
from vsml.objectives import OnlineMean, Remember
from vsml.tasks import GaussianMixtures
from vsml.tasks import Remember as Snippets

STREAMS = {
    "one frame": Snippets(size=4, snippets=3, delay=1, batch=2),
    "sequences with noise": Snippets(size=3, snippets=2, frames=2, delay=2, distractors=True, noise=0.1, rounds=2),
    "real": Snippets(size=3, snippets=2, frames=2, cue=1.0, values="real"),
}
LEARNER = BodiesSynapses(hidden=(3,), visible=True, body_size=2, width=4, synapse_std=0.5, gate=0.0)


def begun(stream):
    params = LEARNER.init(jax.random.key(0), stream.spec)
    state = LEARNER.initial_state(params, jax.random.key(1), stream.spec)
    return params, jax.lax.stop_gradient(state), stream.sample(stream.load(), jax.random.key(2))


def states(params, state, task):
    """The state before every step, and after the last."""
    found = [state]
    for t in range(len(task.weight)):
        row = jax.tree.map(lambda leaf, t=t: leaf[t], task.steps)
        found.append(LEARNER.step(params, found[-1], task, (), row).state)
    return found


def by_definition(params, state, task, gradient):
    """The loss, snippet by snippet, with the gradient that the variant has by definition."""
    constant = jax.lax.stop_gradient(params)
    before = states(constant, state, task)
    total, count = 0.0, 0.0
    for written, recalled in zip(np.asarray(task.written), np.asarray(task.recalled), strict=True):
        start = before[recalled[0]]
        if gradient == "short_term":
            after = before[written[0]]
            for t in written:
                after = LEARNER.step(params, after, task, (), jax.tree.map(lambda leaf, t=t: leaf[t], task.steps)).state
            slope = [leaf - jax.lax.stop_gradient(leaf) for leaf in after.synapses]
            start = start._replace(synapses=tuple(s + d for s, d in zip(start.synapses, slope, strict=True)))
        for t in recalled:
            row = jax.tree.map(lambda leaf, t=t: leaf[t], task.steps)
            step = LEARNER.step(params, start, task, (), row)
            start = step.state
            loss = task.score(row, step.output, ()).loss
            total, count = total + jnp.sum(loss * row.asked), count + jnp.sum(row.asked)
    return total / count


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
@pytest.mark.parametrize("gradient", ["short_term", "read_only"])
def test_gradient_is_that_of_the_definition(stream, gradient):
    params, state, task = begun(stream)
    objective = Remember(gradient)
    found, slope = jax.value_and_grad(lambda p: objective.evaluate(LEARNER, p, state, task, jax.random.key(3))[0])(
        params
    )
    wanted, expected = jax.value_and_grad(lambda p: by_definition(p, state, task, gradient))(params)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    for path, leaf in jax.tree_util.tree_leaves_with_path(expected):
        own = slope
        for key in path:
            own = own[key.key]
        np.testing.assert_allclose(own, leaf, atol=1e-5, err_msg=jax.tree_util.keystr(path))
    # In recall synapses change after the output: a single step of it says nothing about their rule.
    learns = gradient == "short_term" or stream.frames > 1
    assert (np.abs(slope["synapse"]["change"]).max() > 1e-6) == learns


@pytest.mark.parametrize("segment", [None, 3])
def test_full_is_backprop_through_the_stream(segment):
    params, state, task = begun(STREAMS["sequences with noise"])

    def plainly(p):
        lived = unroll(LEARNER, p, state, task)
        losses = task.score(task.steps, lived.outputs, ()).loss
        return jnp.sum(losses * task.weight) / jnp.sum(task.weight)

    def full(p):
        return Remember("full").evaluate(LEARNER, p, state, task, jax.random.key(3), segment)[0]

    for own, leaf in zip(
        jax.tree.leaves(jax.grad(full)(params)), jax.tree.leaves(jax.grad(plainly)(params)), strict=True
    ):
        np.testing.assert_allclose(own, leaf, atol=1e-5)


def test_all_variants_have_the_same_loss_and_measures():
    params, state, task = begun(STREAMS["one frame"])
    found = [
        Remember(kind).evaluate(LEARNER, params, state, task, jax.random.key(3))
        for kind in ("short_term", "read_only", "full")
    ]
    for loss, metrics in found[:2]:
        np.testing.assert_allclose(loss, found[2][0], rtol=1e-6)
        assert metrics.keys() == found[2][1].keys() == {"loss", "recalled", "recalled_curve"}
        np.testing.assert_allclose(metrics["recalled_curve"], found[2][1]["recalled_curve"], rtol=1e-6)


def test_what_is_written_has_a_slope_in_short_term_alone():
    # The learner never changes what it recalls from, so that all slope of the rule comes from writing.
    class Reads(BodiesSynapses):
        def learn(self, params, state, x, feedback):
            learned = super().learn(params, state, x, feedback)
            showing = jnp.all(x != 0)
            return jax.tree.map(lambda new, old: jnp.where(showing, new, old), learned, state)

    stream = STREAMS["one frame"]
    params, state, task = begun(stream)
    learner = Reads(**{name: getattr(LEARNER, name) for name in LEARNER.__dataclass_fields__})

    def slope(objective):
        gradient = jax.grad(lambda p: objective.evaluate(learner, p, state, task, jax.random.key(3))[0])(params)
        return np.abs(gradient["synapse"]["change"]).max()

    assert slope(Remember("short_term")) > 1e-6
    assert slope(Remember("read_only")) == 0


def test_of_frozen_synapses_short_term_is_read_only():
    params, state, task = begun(STREAMS["one frame"])
    frozen = replace(LEARNER, plastic=False)

    def slope(kind):
        return jax.grad(lambda p: Remember(kind).evaluate(frozen, p, state, task, jax.random.key(3))[0])(params)

    jax.tree.map(np.testing.assert_array_equal, slope("short_term"), slope("read_only"))
    assert np.abs(slope("full")["body"]["change"] - slope("read_only")["body"]["change"]).max() > 1e-6


def test_other_tasks_have_the_objective_of_elsewhere():
    tasks = NoiseTasks(length=4)
    learner, spec = replace(LEARNER, visible=None), tasks.spec
    params = learner.init(jax.random.key(0), spec)
    given = (
        learner,
        params,
        learner.initial_state(params, jax.random.key(1), spec),
        tasks.sample((), jax.random.key(2)),
    )
    loss, metrics = Remember(elsewhere=OnlineMean()).evaluate(*given, jax.random.key(3))
    expected, own = OnlineMean().evaluate(*given, jax.random.key(3))
    assert (loss, metrics.keys()) == (expected, own.keys())
    with pytest.raises(UserError, match=r"or set objectives\.Remember\.elsewhere"):
        Remember().evaluate(*given, jax.random.key(3))


def planned(gradient, delay, segment=None):
    """Bytes that XLA plans for temporaries of a meta-gradient, of streams with so long a delay."""
    params, state, task = begun(Snippets(size=6, snippets=2, delay=delay))

    def loss(p):
        return Remember(gradient).evaluate(LEARNER, p, state, task, jax.random.key(3), segment)[0]

    analysis = jax.jit(jax.grad(loss)).lower(params).compile().memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes


def test_memory_does_not_grow_with_the_delay_in_short_term_and_with_segments_by_states_alone():
    assert planned("short_term", 100) < 1.3 * planned("short_term", 4)
    assert planned("full", 100) > 5 * planned("full", 100, segment=10)


def test_other_tasks_are_refused():
    tasks = GaussianMixtures(length=4, inputs=3, classes=3)
    learner = BodiesSynapses("layered", hidden=())
    params = learner.init(jax.random.key(0), tasks.spec)
    state = learner.initial_state(params, jax.random.key(1), tasks.spec)
    task = tasks.sample((), jax.random.key(2))
    assert np.isfinite(OnlineMean().evaluate(learner, params, state, task, jax.random.key(3))[0])
    with pytest.raises(UserError, match=r"objectives\.Remember needs streams of snippets, but the tasks are Classif"):
        Remember().evaluate(learner, params, state, task, jax.random.key(3))
