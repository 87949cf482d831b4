"""One meta-step as a pure function: keys, lifetimes, meta-gradient, update. Every device runs it on its members."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from vsml.experiment import Experiment
from vsml.training.lifetimes import TaskLifetimes
from vsml.training.parallel import PerDevice, device_index, mean_over_devices
from vsml.types import Array, Key, Metrics, Params

LOSS_MEMORY = 0.98


class TrainState(NamedTuple):
    """What every device holds whole."""

    step: Array  # [] int32, finished meta-steps
    params: Params
    optimizer: optax.OptState
    skipped: Array  # [] int32, non-finite meta-gradients so far
    skipped_in_row: Array  # [] int32, of these without a finite one in between up to now
    smoothed_loss: Array  # [] float32, moving average of the loss over about 1 / (1 - LOSS_MEMORY) meta-steps


def init_state(experiment: Experiment) -> TrainState:
    """The state before the first meta-step; a function of the seed alone."""
    params = experiment.learner.init(run_key(experiment, 0), experiment.tasks.spec)
    step, skipped, skipped_in_row = (jnp.zeros((), jnp.int32) for _ in range(3))  # a meta-step donates each buffer once
    optimizer = experiment.optimizer.init(params)
    return TrainState(step, params, optimizer, skipped, skipped_in_row, smoothed_loss=jnp.full((), jnp.inf))


def init_estimator(experiment: Experiment, params: Params, data: Any) -> Any:
    """The estimator's state before the first meta-step: one entry per population member."""
    keys = member_keys(run_key(experiment, 1), 0, experiment.population)
    return experiment.meta_optimizer.init(params, keys, _lifetimes(experiment, data))


def run_key(experiment: Experiment, stream: int) -> Key:
    """Key of one of the independent random streams of a run: 0 parameters, 1 estimator, 2 meta-steps."""
    return jax.random.fold_in(jax.random.key(experiment.seed), stream)


def member_keys(key: Key, first: Array | int, count: int) -> Key:
    """Keys of the members first..first + count - 1: they depend on a member's index, not on where it runs."""
    return jax.vmap(lambda index: jax.random.fold_in(key, index))(first + jnp.arange(count))


def build_meta_step(experiment: Experiment, num_devices: int) -> PerDevice:
    """The per-device function of one meta-step.

    A non-finite loss or meta-gradient leaves parameters, optimizer and estimator as they were and is counted.
    """
    members = experiment.population // num_devices

    def meta_step(state: TrainState, estimator: Any, data: Any) -> tuple[TrainState, Any, Metrics]:
        key = jax.random.fold_in(run_key(experiment, 2), state.step)
        keys = member_keys(key, device_index() * members, members)
        gradient, new_estimator, metrics = experiment.meta_optimizer.gradient(
            state.params, estimator, keys, _lifetimes(experiment, data)
        )
        gradient, metrics = mean_over_devices((gradient, metrics))
        updates, optimizer = experiment.optimizer.update(gradient, state.optimizer, state.params)
        gradient_norm = optax.tree.norm(gradient)
        finite = jnp.isfinite(gradient_norm) & jnp.isfinite(metrics["loss"])
        # A row that is long enough to stop at stays until the trainer looks.
        stuck = state.skipped_in_row >= experiment.max_non_finite
        new = TrainState(
            step=state.step + 1,
            params=_choose(finite, optax.apply_updates(state.params, updates), state.params),
            optimizer=_choose(finite, optimizer, state.optimizer),
            skipped=state.skipped + ~finite,
            skipped_in_row=jnp.where(finite & ~stuck, 0, state.skipped_in_row + ~finite),
            smoothed_loss=_smooth(state, metrics["loss"], finite),
        )
        metrics |= {
            "gradient_norm": gradient_norm,
            "update_norm": jnp.where(finite, optax.tree.norm(updates), 0.0),
            "parameter_norm": optax.tree.norm(new.params),
            "skipped": new.skipped,
            "skipped_in_row": new.skipped_in_row,
            "smoothed_loss": new.smoothed_loss,
        }
        return new, _choose(finite, new_estimator, estimator), metrics

    return meta_step


def _lifetimes(experiment: Experiment, data: Any) -> TaskLifetimes:
    return TaskLifetimes(experiment.learner, experiment.tasks, experiment.objective, data)


def _choose(condition: Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda n, o: jnp.where(condition, n, o), new, old)


def _smooth(state: TrainState, loss: Array, finite: Array) -> Array:
    """A moving average that starts as a plain mean, so that the first losses do not weigh on it for long.

    Infinite until there is a finite one: nothing is better than what comes then.
    """
    seen = state.step - state.skipped
    memory = jnp.minimum(LOSS_MEMORY, 1.0 - 1.0 / (seen + 1.0))
    smoothed = jnp.where(seen == 0, loss, memory * state.smoothed_loss + (1 - memory) * loss)
    return jnp.where(finite, smoothed, state.smoothed_loss)
