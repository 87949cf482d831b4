"""What every learner keeps to: predicting is not learning, and feedback of any kind is what the task says it is."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from memory_task import Lamps
from noise_tasks import NoiseTasks
from stepping import labelled

from vsml.cells import LSTM, Bilinear
from vsml.errors import UserError
from vsml.learners import (
    VSML,
    BodiesSynapses,
    DeltaRule,
    FastWeightMemory,
    GradientDescent,
    HebbianFastWeights,
    Learner,
    MetaRNN,
    NearestClassMean,
    NearestNeighbour,
    RandomFeatures,
    RecursiveLeastSquares,
    RememberedExamples,
    Standardised,
)
from vsml.learners.unroll import unroll
from vsml.sharing import Grouped, Typed
from vsml.tasks import Feedback, TaskSpec

SMALL = LSTM(size=3, gate_offset=1.0)
LEARNERS: dict[str, Learner] = {
    "VSML": VSML(SMALL, message_size=3, micro_ticks=1, hidden=(2,), feed_label=True),
    "VSML, backward pass": VSML(
        SMALL, message_size=3, micro_ticks=1, hidden=(2,), feedback="backward_pass", clear_feedback=True
    ),
    "Meta RNN": MetaRNN(hidden_size=4),
    "hebb": HebbianFastWeights(),
    "oja, second pass": HebbianFastWeights("oja", feedback="second_pass"),
    "delta rule": DeltaRule(key_size=4),
    "delta rule, second pass": DeltaRule(key_size=4, feedback="second_pass"),
    "bodies and synapses": BodiesSynapses(hidden=(3,)),
    "memory": FastWeightMemory(hidden_size=4, memory_size=3),
    "gradient descent": GradientDescent(optax.adam(0.1), hidden=(3,)),
    "nearest class mean": NearestClassMean(),
    "nearest neighbour": NearestNeighbour(),
    "least squares": RecursiveLeastSquares(features=4),
    "VSML, random features": RandomFeatures(Standardised(VSML(SMALL, message_size=3, feed_label=True)), num=5),
    "VSML, remembered examples": RememberedExamples(
        VSML(SMALL, message_size=3, micro_ticks=1, feedback="backward_pass"), num=3
    ),
}
every_learner = pytest.mark.parametrize("learner", LEARNERS.values(), ids=LEARNERS.keys())
SPEC = NoiseTasks(length=4).spec


@functools.partial(jax.jit, static_argnums=0)
def _frozen(learner: Learner) -> tuple[Any, Any, Any]:
    """Four times the same input without learning, then with: outputs of both, and a mark whether the state stayed."""
    params = learner.init(jax.random.key(0), SPEC)
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)
    state = learner.initial_state(params, jax.random.key(1), SPEC)
    x, y = jnp.ones((4, 1, 3)), jax.nn.one_hot(jnp.ones((4, 1), int), 2)
    frozen = unroll(learner, params, state, labelled(x, y), learns=False)
    same = jax.tree.map(lambda old, new: jnp.array_equal(old, new), state, frozen.state)
    return frozen.outputs, unroll(learner, params, state, labelled(x, y)).outputs, same


@every_learner
def test_predicting_without_learning_changes_nothing(learner):
    frozen, learning, same = _frozen(learner)
    assert all(jax.tree.leaves(same))
    np.testing.assert_array_equal(frozen, jnp.broadcast_to(frozen[:1], frozen.shape))
    np.testing.assert_allclose(learning[0], frozen[0], rtol=1e-6)
    assert jnp.abs(learning[2:] - frozen[2:]).max() > 1e-5


REWARDED: dict[str, Learner] = {
    "VSML": VSML(SMALL, message_size=3, micro_ticks=1, feed_reward=True),
    "Meta RNN": MetaRNN(hidden_size=4),
    "oja, second pass": HebbianFastWeights("oja", feedback="second_pass"),
    "delta rule": DeltaRule(key_size=4),
}


@pytest.mark.parametrize("learner", REWARDED.values(), ids=REWARDED.keys())
def test_rewards_reach_the_learner(learner):
    """A lifetime with other noise on its rewards is another one, from the second prediction on."""
    tasks = Lamps(length=3)

    @jax.jit
    def outputs(extra: Any) -> Any:
        params = jax.tree.map(lambda leaf: leaf + 0.1, learner.init(jax.random.key(0), tasks.spec))
        state = learner.initial_state(params, jax.random.key(1), tasks.spec)
        task = tasks.sample((), jax.random.key(2))
        told_by_reward_alone = task._replace(noise=task.noise + extra)
        return unroll(learner, params, state, told_by_reward_alone).outputs

    one, other = outputs(0.0), outputs(3.0)
    np.testing.assert_array_equal(one[0], other[0])
    assert jnp.abs(one[1:] - other[1:]).max() > 1e-5


def test_a_network_reads_as_many_numbers_as_the_task_answers():
    spec = TaskSpec((3,), 2, length=1, feedback=("reward",))
    params = jax.eval_shape(lambda key: MetaRNN(hidden_size=4).init(key, spec), jax.random.key(0))
    assert params["gates"]["w"].shape == (3 + 1 + 4, 16)


@pytest.mark.parametrize(
    ("learner", "feedback", "message"),
    [
        (
            VSML(SMALL),
            ("target",),
            r"^learners\.VSML learns from the error, but these tasks give target: ",
        ),
        (VSML(SMALL, feed_reward=True), ("error", "target"), "from the reward, but these tasks give error and target"),
        (VSML(SMALL), (), "these tasks give nothing"),
        (GradientDescent(optax.sgd(0.1)), ("reward",), r"^learners\.GradientDescent learns from the error"),
        (NearestClassMean(), ("reward",), r"^learners\.NearestClassMean learns from the target"),
        (NearestNeighbour(), ("error",), r"^learners\.NearestNeighbour learns from the target"),
        (RecursiveLeastSquares(), ("error",), r"^learners\.RecursiveLeastSquares learns from the target"),
    ],
)
def test_feedback_that_a_task_does_not_give_is_refused(learner, feedback, message):
    spec = TaskSpec((3,), 2, length=1, feedback=feedback)
    with pytest.raises(UserError, match=message):
        learner.initial_state(learner.init(jax.random.key(0), spec), jax.random.key(0), spec)


def test_the_last_channel_that_is_fed_has_to_exist():
    with pytest.raises(UserError, match=r"message_size is 2, but feed_reward needs channel 2: set message_size to 3"):
        VSML(SMALL, message_size=2, feed_reward=True)


def test_gradient_descent_waits_for_feedback():
    learner, spec = GradientDescent(optax.sgd(0.5)), TaskSpec((1,), 1, length=1, batch=2)
    state = learner.initial_state({}, jax.random.key(0), spec)
    x, error = jnp.array([[1.0], [3.0]]), jnp.array([[0.2], [0.0]])
    nothing = learner.learn({}, state, x, Feedback(error=0 * error, given=jnp.zeros(2)))
    jax.tree.map(np.testing.assert_array_equal, nothing, state)
    # One of two examples has an answer: its gradient .2 * 1 counts alone.
    learned = learner.learn({}, state, x, Feedback(error=error, given=jnp.array([1.0, 0.0])))
    np.testing.assert_allclose(learned.network[0].w, state.network[0].w - 0.5 * 0.2, rtol=1e-6)


@pytest.mark.parametrize("sharing", [None, Typed(embedding_size=2)], ids=["shared", "typed"])
@pytest.mark.parametrize("cell", [SMALL, Bilinear(size=3)], ids=["LSTM", "Bilinear"])
def test_a_sub_rnn_alone_does_what_it_does_in_a_network_of_one(cell, sharing):
    """Layers of one sub-RNN: what arrives there is known from the messages around it."""
    learner = VSML(cell, message_size=3, reduction="sum", feedback="backward_pass", output_bound=None)
    learner = learner if sharing is None else VSML(**{**vars(learner), "sharing": sharing})
    spec = TaskSpec((1,), 1, length=1)

    @jax.jit
    def both() -> Any:
        params = learner.init(jax.random.key(0), spec)
        state = learner.initial_state(params, jax.random.key(1), spec)
        predicted, output = learner.predict(params, state, jnp.array([[0.7]]))
        cells = jax.tree.map(lambda leaf: leaf[0], state["cells"][0])
        alone, forward, backward = learner.visit_alone(params, cells, jnp.array([[0.7]]), jnp.zeros((1, 1)))
        network = (predicted["cells"][0], predicted["forward"][1], predicted["backward"][0])
        return jax.tree.map(lambda leaf: leaf[0], network), (alone, forward, backward), output

    network, alone, output = both()
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6), network, alone)
    np.testing.assert_allclose(output[0], alone[1][learner.output_channel], rtol=1e-5)


def test_a_sub_rnn_alone_needs_one_set():
    learner = VSML(SMALL, sharing=Grouped(groups=2))
    params = learner.init(jax.random.key(0), TaskSpec((2,), 2, length=1))
    cells = SMALL.initial_state(jax.random.key(0), 4, 2, 0.5)
    with pytest.raises(UserError, match=r"sharing\.Grouped gives the sub-RNNs of a layer several sets"):
        learner.visit_alone(params, cells, jnp.ones((1, 4)), jnp.ones((1, 4)))


@pytest.mark.parametrize("learner", REWARDED.values(), ids=REWARDED.keys())
def test_a_task_may_give_nothing_at_all(learner):
    """Networks that read feedback read none; VSML says what it lacks."""
    spec = TaskSpec((3,), 2, length=1, feedback=())
    if isinstance(learner, VSML):
        with pytest.raises(UserError, match="these tasks give nothing"):
            learner.init(jax.random.key(0), spec)
        return
    params = learner.init(jax.random.key(0), spec)
    state = learner.initial_state(params, jax.random.key(1), spec)
    predicted, _ = learner.predict(params, state, jnp.ones((1, 3)))
    after = learner.learn(params, predicted, jnp.ones((1, 3)), Feedback())
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
