"""Runs many lifetimes of a frozen learner and reduces the predictions of each to its scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from vsml.errors import UserError
from vsml.evaluation.telling import tell
from vsml.learners.base import Learner
from vsml.learners.unroll import unroll
from vsml.tasks.base import Task, TaskDistribution, TaskSpec
from vsml.tasks.supervised import ClassificationTask
from vsml.types import Array, Key, Params, State

LAST_SHARE = 0.1
"""Share of a lifetime's counted steps, its last ones, whose mean is a `final_` score."""


class Outcomes(NamedTuple):
    """How the predictions of lifetimes turned out, each made before its answer; means over the B examples of a step."""

    loss: Any  # [..., T], NaN where no prediction counts
    weight: Any  # [..., T] how much the predictions of a step count, 0..B
    measures: Mapping[str, Any]  # [..., T] each, by the names that the task gives, NaN where no prediction counts


def measures_of(tasks: TaskDistribution) -> list[str]:
    """Names of what a task of this distribution measures, by shapes alone."""

    def first_step(data: Any, key: Key) -> Mapping[str, Array]:
        task = tasks.sample(data, key)
        rows = jax.tree.map(lambda leaf: leaf[:1], task.steps)
        output = jnp.zeros((tasks.spec.batch, tasks.spec.num_outputs))
        answer = task.answer(task.world, jax.tree.map(lambda leaf: leaf[0], rows), output)
        return task.score(rows, output[None], jax.tree.map(lambda leaf: leaf[None], answer.outcome)).measures

    return list(jax.eval_shape(first_step, tasks.load(), jax.random.key(0)))


def check_classification(who: str, name: str, tasks: TaskDistribution) -> None:
    """Raises `UserError` where an evaluation `name` of the evaluator `who` is not on labelled examples."""
    task = jax.eval_shape(tasks.sample, tasks.load(), jax.random.key(0))
    if not isinstance(task, ClassificationTask):
        raise _no_classification(who, name)


def check_learned(who: str, name: str, tasks: TaskDistribution, learned: int) -> None:
    """Raises `UserError` where an evaluation `name` of `who` leaves nothing to predict after `learned` steps, or its
    tasks know no accuracy."""
    if tasks.spec.length <= learned:
        raise UserError(
            f"{who}.learned is {learned}, but lifetimes of {name} have {tasks.spec.length} steps: lower it, or make "
            "lifetimes longer"
        )
    if "accuracy" not in measures_of(tasks):
        raise _no_classification(who, name)


def _no_classification(who: str, name: str) -> UserError:
    return UserError(f"{who}: the tasks of {name} are no classification: leave it out")


def check_sizes(who: str, chunk: int | None, **lifetimes: int | None) -> None:
    """Raises `UserError` where an evaluator, called `who`, has numbers of lifetimes or a chunk that do not work."""
    for name, number in lifetimes.items():
        if number is not None and number < 2:
            raise UserError(f"{who}.{name} is {number}: set it to 2 or more, or there is no spread")
    if chunk is not None and chunk < 1:
        raise UserError(f"{who}.chunk is {chunk}: set it to 1 or more, or to None for all")


class Lifetime(Protocol):
    """What to do with the task of one lifetime, and what to tell of it: a pytree of arrays, `Outcomes` for instance.

    Hashable: compiled programs are found again by it.
    """

    def __call__(self, spec: TaskSpec, shared: Any, task: Task, key: Key) -> Any:
        """Pure and traced; `shared` is what all lifetimes read, `key` determines the initial state."""
        ...


@dataclass(frozen=True)
class UnrolledLifetime:
    """Unrolls `learner`; what lifetimes share is its meta-parameters."""

    learner: Learner

    def __call__(self, spec: TaskSpec, shared: Params, task: Task, key: Key) -> Outcomes:
        state = self.learner.initial_state(shared, key, spec)
        return predict_online(self.learner, shared, state, task)


def predict_online(learner: Learner, params: Params, state: State, task: Task) -> Outcomes:
    """Runs one lifetime: every example is predicted, then learned from. Returns leaves [T]."""
    lived = unroll(learner, params, state, task)
    return outcomes_of(task, lived.outputs, lived.outcomes)


def outcomes_of(task: Task, outputs: Array, outcomes: Any) -> Outcomes:
    """What the outputs of all steps of a task were worth, given `Unrolled.outputs` and `Unrolled.outcomes`."""
    scores = task.score(task.steps, outputs, outcomes)
    weight = task.weight.sum(-1)

    def mean(values: Array) -> Array:
        total = jnp.where(task.weight > 0, values * task.weight, 0).sum(-1)
        return jnp.where(weight > 0, total / jnp.where(weight > 0, weight, 1), jnp.nan)

    return Outcomes(mean(scores.loss), weight, {name: mean(values) for name, values in scores.measures.items()})


def run_lifetimes(
    lifetime: Lifetime, shared: Any, tasks: TaskDistribution, lifetimes: int, seed: int, chunk: int | None = None
) -> Any:
    """Runs lifetimes 0..n-1 of a seed, spread over the devices of this process.

    Task and initial state of a lifetime are determined by seed and index alone: every `lifetime` meets the same tasks,
    on any number of devices, in chunks of any size. Tasks are sampled in a program of their own, so that distributions
    with the same spec share the compiled lifetime.

    Args:
      lifetime: what to do with each task.
      shared: pytree of arrays that all lifetimes read.
      tasks: what each lifetime's task is drawn from.
      lifetimes: how many.
      seed: of the lifetimes.
      chunk: lifetimes at once, which bounds memory (rounded up to fill every device); None for all.

    Returns:
      Host arrays with a leading axis of lifetimes.
    """
    size = min(chunk or lifetimes, lifetimes)
    num_devices = min(jax.local_device_count(), size)
    size = -(-size // num_devices) * num_devices
    data = tasks.load()
    chunks = []
    tell(0, lifetimes)
    for start in range(0, lifetimes, size):
        # The last chunk is filled up with the first lifetimes, so that one program serves all; they are cut off below.
        indices = np.arange(start, start + size) % lifetimes
        keys = _lifetime_keys(jax.random.key(seed), indices)
        sampled = _sample(tasks, num_devices, data, keys)
        chunks.append(jax.device_get(_live(lifetime, tasks.spec, num_devices, shared, sampled, keys)))
        tell(min(start + size, lifetimes), lifetimes)
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:lifetimes], *chunks)


@jax.jit
def _lifetime_keys(key: Key, indices: Array) -> Key:
    """Keys [n, 2] of the task and of the initial state of each lifetime."""
    return jax.vmap(lambda index: jax.random.split(jax.random.fold_in(key, index)))(indices)


@partial(jax.jit, static_argnums=(0, 1))
def _sample(tasks: TaskDistribution, num_devices: int, data: Any, keys: Key) -> Task:
    return _spread(num_devices, lambda data, keys: jax.vmap(lambda k: tasks.sample(data, k[0]))(keys))(data, keys)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _live(lifetime: Lifetime, spec: TaskSpec, num_devices: int, shared: Any, sampled: Task, keys: Key) -> Any:
    def on_device(shared: Any, of_lifetimes: tuple[Task, Key]) -> Any:
        return jax.vmap(lambda task, k: lifetime(spec, shared, task, k[1]))(*of_lifetimes)

    return _spread(num_devices, on_device)(shared, (sampled, keys))


def _spread(num_devices: int, on_device: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Splits the second argument's leading axis over devices; all of them see the first one.

    Lifetimes are independent: without collectives, nothing here can wait for another device or host.
    """
    mesh = Mesh(np.asarray(jax.local_devices()[:num_devices]), ("device",))
    everywhere, split = PartitionSpec(), PartitionSpec("device")
    return jax.shard_map(on_device, mesh=mesh, in_specs=(everywhere, split), out_specs=split, check_vma=False)


def online_scores(outcomes: Outcomes) -> dict[str, np.ndarray]:
    """What the predictions of each lifetime were worth.

    Args:
      outcomes: leaves [lifetimes, T].

    Returns:
      Values [lifetimes]. Of every measure of the task `cumulative_MEASURE`, the mean over the predictions of a lifetime
      as they count, and `final_MEASURE`, over those of the last tenth of the steps that count (one at least); and
      `loss`, over all that count.
    """
    last = _last_steps(outcomes.weight > 0)
    scores = {}
    for name, values in outcomes.measures.items():
        scores[f"cumulative_{name}"] = mean_over_steps(values, outcomes.weight)
        scores[f"final_{name}"] = mean_over_steps(values, outcomes.weight * last)
    return {**scores, "loss": mean_over_steps(outcomes.loss, outcomes.weight)}


def mean_over_steps(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted mean of each lifetime: [lifetimes, T] -> [lifetimes], in double precision."""
    if not weight.any(axis=1).all():
        raise UserError("the weight of some task is 0 at every step: let each lifetime count one or more")
    counted = np.where(weight > 0, values, 0).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.sum(counted * weight, axis=1) / np.sum(weight, axis=1, dtype=np.float64)


def _last_steps(counted: np.ndarray) -> np.ndarray:
    """The last tenth, but one at least, of the steps that count in each lifetime: bool [lifetimes, T]."""
    number = np.maximum(1, (counted.sum(axis=1, keepdims=True) * LAST_SHARE).astype(int))
    counted_from_here = np.cumsum(counted[:, ::-1], axis=1)[:, ::-1]
    return counted & (counted_from_here <= number)
