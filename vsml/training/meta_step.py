"""One meta-step as a pure function: keys, lifetimes, meta-gradient, update. Every device runs it on its members."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from vsml.errors import UserError
from vsml.experiment import Experiment
from vsml.meta_optimizers.base import EstimatorState, Population
from vsml.metrics import LOSS, RESERVED
from vsml.training.lifetimes import TaskLifetimes
from vsml.training.parallel import PerDevice, device_index, gather_over_devices, mean_over_devices
from vsml.types import Array, Key, Metrics, Params

LOSS_MEMORY = 0.98


class TrainState(NamedTuple):
    """The state that every device holds as a whole."""

    step: Array  # [] int32, finished meta-steps
    params: Params
    optimizer: optax.OptState
    estimator: tuple[Any, ...]  # the shared part of its state, by share of the population
    skipped: Array  # [] int32, non-finite meta-gradients so far
    skipped_in_row: Array  # [] int32, of these the consecutive ones up to now
    smoothed_loss: Array  # [] float32, moving average of the loss over about 1 / (1 - LOSS_MEMORY) meta-steps
    key: Array  # [2] uint32, of the meta-steps' randomness: data, so that one compiled program serves every seed


def init_state(experiment: Experiment, params: Params = None) -> TrainState:
    """The state before the first meta-step; a function of the seed alone, or of it and given meta-parameters."""
    if params is None:
        params = experiment.learner.init(run_key(experiment, 0), experiment.spec)
    step, skipped, skipped_in_row = (jnp.zeros((), jnp.int32) for _ in range(3))  # a meta-step donates each buffer once
    optimizer = experiment.optimizer.init(params)
    estimator = tuple(experiment.meta_optimizer.init_shared(params, keys) for keys in _estimator_keys(experiment))
    key = jax.random.key_data(run_key(experiment, 2))
    return TrainState(step, params, optimizer, estimator, skipped, skipped_in_row, jnp.full((), jnp.inf), key)


def init_estimator(experiment: Experiment, params: Params, data: Any) -> tuple[Any, ...]:
    """The members' part of the estimator's state before the first meta-step, by share: one entry per member."""
    return tuple(
        experiment.meta_optimizer.init_members(params, keys, lifetimes)
        for keys, lifetimes in zip(_estimator_keys(experiment), _lifetimes(experiment, data), strict=True)
    )


def run_key(experiment: Experiment, stream: int) -> Key:
    """Key of one of the independent random streams of a run: 0 parameters, 1 estimator, 2 meta-steps."""
    return jax.random.fold_in(jax.random.key(experiment.seed), stream)


def member_keys(key: Key, first: Array | int, count: int) -> Key:
    """Keys of the members first..first + count - 1: they depend on a member's index, not on where it runs."""
    return jax.vmap(lambda index: jax.random.fold_in(key, index))(first + jnp.arange(count))


def build_meta_step(experiment: Experiment, num_devices: int) -> PerDevice:
    """The per-device function of one meta-step.

    Where the loss or the meta-gradient is not finite, parameters, optimizer and the shared part of the estimator's
    state stay as they were, and the meta-step is counted as skipped. The members' part of the estimator's state
    advances: the same lifetimes would fail again.
    """

    def meta_step(state: TrainState, estimator: tuple[Any, ...], data: Any) -> tuple[TrainState, Any, Metrics]:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        outcomes = []
        for index, lifetimes in enumerate(_lifetimes(experiment, data)):
            population = _population(experiment, index, num_devices, key, state.step)
            estimate = EstimatorState(state.estimator[index], estimator[index])
            outcomes.append(experiment.meta_optimizer.gradient(state.params, estimate, population, lifetimes))
        gradients, estimates, reports = zip(*outcomes, strict=True)
        gradient, metrics = mean_over_devices((_mean_over_shares(experiment, gradients), _report(experiment, reports)))
        updates, optimizer = experiment.optimizer.update(gradient, state.optimizer, state.params)
        gradient_norm = optax.tree.norm(gradient)
        finite = jnp.isfinite(gradient_norm) & jnp.isfinite(metrics["loss"])
        # A row that is long enough to stop is kept until the trainer looks at it.
        stuck = state.skipped_in_row >= experiment.max_non_finite
        new = TrainState(
            step=state.step + 1,
            params=optax.tree.where(finite, optax.apply_updates(state.params, updates), state.params),
            optimizer=optax.tree.where(finite, optimizer, state.optimizer),
            estimator=optax.tree.where(finite, tuple(estimate.shared for estimate in estimates), state.estimator),
            skipped=state.skipped + ~finite,
            skipped_in_row=jnp.where(finite & ~stuck, 0, state.skipped_in_row + ~finite),
            smoothed_loss=_smooth(state, metrics["loss"], finite),
            key=state.key,
        )
        metrics |= {
            "gradient_norm": gradient_norm,
            "update_norm": jnp.where(finite, optax.tree.norm(updates), 0.0),
            "parameter_norm": optax.tree.norm(new.params),
            "skipped": new.skipped,
            "skipped_in_row": new.skipped_in_row,
            "smoothed_loss": new.smoothed_loss,
        }
        return new, tuple(estimate.members for estimate in estimates), metrics

    return meta_step


def _first_members(experiment: Experiment) -> list[int]:
    """Index, in the whole population, of the first member of each share."""
    members = [share.members for share in experiment.shares]
    return [sum(members[:index]) for index in range(len(members))]


def _estimator_keys(experiment: Experiment) -> list[Key]:
    """Keys of the members of each share."""
    key = run_key(experiment, 1)
    firsts = _first_members(experiment)
    return [member_keys(key, first, share.members) for first, share in zip(firsts, experiment.shares, strict=True)]


def _population(experiment: Experiment, index: int, num_devices: int, key: Key, step: Array) -> Population:
    """This device's members of a share, in the meta-step of `key`."""
    size = experiment.shares[index].members
    members = size // num_devices
    first = device_index() * members
    keys = member_keys(key, _first_members(experiment)[index] + first, members)
    share_key = jax.random.fold_in(key, experiment.population + index)  # the index of no member
    return Population(share_key, keys, size, step, first, gather_over_devices)


def _lifetimes(experiment: Experiment, data: Any) -> list[TaskLifetimes]:
    """The inner problem of each share."""
    return [
        TaskLifetimes(experiment.learner, share.tasks, experiment.objective, of_share)
        for share, of_share in zip(experiment.shares, data, strict=True)
    ]


def _mean_over_shares(experiment: Experiment, trees: Sequence[Any]) -> Any:
    """The mean over members of trees that hold the mean over each share's members."""
    weights = [share.members / experiment.population for share in experiment.shares]
    return jax.tree.map(lambda *leaves: sum(w * leaf for w, leaf in zip(weights, leaves, strict=True)), *trees)


def _report(experiment: Experiment, reports: Sequence[Metrics]) -> Metrics:
    """Metrics of the whole population and, of a mixture, also those of each share as `metric/name`.

    A scalar of the population is the mean over the shares. Curves are reported for each share only, since their lengths
    may differ.

    Raises:
      UserError: there is no loss, or a metric is neither a scalar nor a curve.
    """
    for report in reports:
        _check_metrics(experiment, report)
    if len(reports) == 1:
        return dict(reports[0])
    shared = [name for name, value in reports[0].items() if jnp.ndim(value) == 0 and all(name in r for r in reports)]
    means = _mean_over_shares(experiment, [{name: report[name] for name in shared} for report in reports])
    named = {
        f"{metric}/{share.name}": value
        for share, report in zip(experiment.shares, reports, strict=True)
        for metric, value in report.items()
    }
    return {**means, **named}


def _check_metrics(experiment: Experiment, metrics: Metrics) -> None:
    objective = f"objectives.{type(experiment.objective).__name__}"
    if LOSS not in metrics:
        raise UserError(f"{objective} measures {', '.join(metrics) or 'nothing'}: add its `loss`")
    for name, value in metrics.items():
        if "/" in name or name in RESERVED:
            raise UserError(f"{objective}: the name of the metric '{name}' is reserved: give it another one")
        if jnp.ndim(value) > (0 if name == LOSS else 1):
            shape = list(jnp.shape(value))
            raise UserError(f"{objective}: the metric '{name}' has the shape {shape}: give a scalar, or a curve [T]")


def _smooth(state: TrainState, loss: Array, finite: Array) -> Array:
    """A moving average that starts as a plain mean, so that the first losses do not weigh on it for long.

    Infinite until there is a finite loss, which then is better than all before.
    """
    seen = state.step - state.skipped
    memory = jnp.minimum(LOSS_MEMORY, 1.0 - 1.0 / (seen + 1.0))
    smoothed = jnp.where(seen == 0, loss, memory * state.smoothed_loss + (1 - memory) * loss)
    return jnp.where(finite, smoothed, state.smoothed_loss)
