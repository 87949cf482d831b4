"""What all meta-learned baselines share: sizes, timing, parallel streams, and that backprop can meta-train them."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from noise_tasks import NoiseTasks
from stepping import live

from vsml.learners import ConvFrontEnd, DeltaRule, FastWeightMemory, HebbianFastWeights, Learner, MetaRNN
from vsml.objectives import OnlineMean
from vsml.tasks import ClassificationTask, TaskSpec
from vsml.training.lifetimes import TaskLifetimes

LENGTH = 20
# Numbers are tested, not speed: without LLVM's optimisation programs compile in half the time.
FILTERS = ConvFrontEnd(channels=(2,))
LEARNERS: dict[str, Learner] = {
    "hebb": HebbianFastWeights(),
    "oja": HebbianFastWeights("oja", feedback="second_pass", front_end=FILTERS),
    "delta": DeltaRule(key_size=4),
    "delta, second pass": DeltaRule(key_size=4, feedback="second_pass", front_end=FILTERS),
    "memory": FastWeightMemory(hidden_size=5, memory_size=6),
    "meta_rnn, filters": MetaRNN(hidden_size=5, micro_ticks=1, front_end=FILTERS),
}
every_learner = pytest.mark.parametrize("learner", LEARNERS.values(), ids=LEARNERS.keys())


class NoiseImages(NoiseTasks):
    """Noise of 3x3 pixels."""

    @property
    def spec(self) -> TaskSpec:
        return TaskSpec((3, 3), self.num_classes, self.length, self.batch)

    def sample(self, data: Any, key: Any) -> ClassificationTask:
        task = super().sample(data, key)
        return task._replace(x=task.x.reshape(self.length, self.batch, 3, 3))


TASKS = NoiseImages(num_inputs=9, num_classes=3, length=LENGTH, batch=2)


@functools.cache
def _task() -> ClassificationTask:
    return jax.jit(lambda key: TASKS.sample((), key))(jax.random.key(1))


@functools.partial(jax.jit, static_argnums=0)
def _predictions(learner: Learner, params: Any, x: Any, y: Any) -> Any:
    """Of every stream together, and of each alone."""

    def predict(x, y):
        spec = TaskSpec(x.shape[2:], y.shape[-1], len(x), x.shape[1])
        return live(learner, params, learner.initial_state(params, jax.random.key(0), spec), x, y).outputs

    alone = jax.vmap(lambda x, y: predict(x[:, None], y[:, None]), in_axes=1, out_axes=1)(x, y)
    return predict(x, y), alone[:, :, 0]


@functools.partial(jax.jit, static_argnums=0)
def _born(learner: Learner, key: Any) -> tuple[Any, Any]:
    """Meta-parameters, and what a lifetime with the same key starts from."""
    params = learner.init(key, TASKS.spec)
    return params, learner.initial_state(params, key, TASKS.spec)


def _lifetime(learner: Learner) -> tuple[Any, Any, Any]:
    task = _task()
    params, _ = _born(learner, jax.random.key(0))
    rng = np.random.default_rng(0)  # away from the start, where fast weights hardly count
    moved = jax.tree.map(lambda leaf: leaf + jnp.asarray(0.3 * rng.standard_normal(leaf.shape), leaf.dtype), params)
    return moved, task.x[:6], task.y[:6]


@pytest.mark.parametrize(
    ("learner", "size", "learned"),
    [
        (HebbianFastWeights(), 16_091, 804 * 10),
        (HebbianFastWeights("oja"), 16_091, 804 * 10),
        (DeltaRule(), 805 * (64 + 64 + 10 + 1), 64 * 10),
        (FastWeightMemory(), 110_683, 2 * 32 + 16 * 256),
        # Filters 3 * 3 * 1 * 16 + 16 see 28x28 at 14x14 positions: 3,136 features instead of 784 inputs.
        (HebbianFastWeights(front_end=ConvFrontEnd()), 160 + 2 * 3_156 * 10 + 11, 3_156 * 10),
        (MetaRNN(front_end=ConvFrontEnd()), 160 + 478_986 + (3_136 - 784) * 512, 256),
    ],
    ids=str,
)
def test_sizes_at_28_by_28(learner, size, learned):
    spec = TaskSpec((28, 28, 1), 10, length=1)
    params = jax.eval_shape(lambda key: learner.init(key, spec), jax.random.key(0))
    state = jax.eval_shape(lambda p, key: learner.initial_state(p, key, spec), params, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == size
    assert sum(leaf.size for leaf in jax.tree.leaves(learner.learned_variables(state))) == learned


@every_learner
def test_meta_parameters_differ_by_key_and_every_lifetime_starts_from_zeros(learner):
    (params, state), (others, other_state) = (_born(learner, jax.random.key(seed)) for seed in (0, 1))
    assert any((one != other).any() for one, other in zip(*map(jax.tree.leaves, (params, others)), strict=True))
    assert not any(leaf.any() for leaf in jax.tree.leaves((state, other_state)))


@every_learner
def test_a_label_changes_later_predictions_only_and_only_its_own_stream(learner):
    params, x, y = _lifetime(learner)
    before, alone = _predictions(learner, params, x, y)
    after, _ = _predictions(learner, params, x, y.at[1, 0].set(jnp.roll(y[1, 0], 1)))
    difference = jnp.abs(after - before).max(axis=-1)
    assert not difference[:2].any()
    assert difference[2:, 0].min() > 1e-5
    assert not difference[:, 1].any()
    np.testing.assert_allclose(alone, before, rtol=1e-5, atol=1e-5)


@functools.partial(jax.jit, static_argnums=0)
def _meta_train(learner: Learner) -> tuple[Any, Any]:
    """Meta-gradients and losses of 30 meta-steps, all on the same four lifetimes."""
    lifetimes = TaskLifetimes(learner, TASKS, OnlineMean(), data=())
    optimizer, keys = (
        optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.02)),
        jax.random.split(jax.random.key(0), 4),
    )
    params = learner.init(jax.random.key(0), TASKS.spec)

    def meta_step(carry, _):
        params, state = carry
        loss, gradient = jax.value_and_grad(lambda p: jax.vmap(lambda key: lifetimes.loss(p, key)[0])(keys).mean())(
            params
        )
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(params, updates), state), (gradient, loss)

    _, (gradients, losses) = jax.lax.scan(meta_step, (params, optimizer.init(params)), length=30)
    return gradients, losses


@every_learner
def test_backprop_through_20_examples_meta_trains_every_parameter(learner):
    gradients, losses = jax.device_get(_meta_train(learner))
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.isfinite(leaf).all(), path
        assert leaf[0].any(), path
    assert losses[-1] < losses[0] - 0.1
