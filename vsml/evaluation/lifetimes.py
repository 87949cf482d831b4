"""Runs many lifetimes of a frozen learner and reduces their predictions to the numbers of a summary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec

from vsml.errors import UserError
from vsml.learners.base import Learner
from vsml.learners.unroll import unroll
from vsml.tasks.base import Task, TaskDistribution, TaskSpec
from vsml.types import Array, Key, Params, State

LAST_SHARE = 0.1
"""Share of a lifetime's counted steps, its last ones, whose mean is the final accuracy."""


class Outcomes(NamedTuple):
    """How the predictions of lifetimes turned out, each made before its label was seen; means over the B examples."""

    correct: Any  # [..., T] share of correct predictions, NaN where none counts
    loss: Any  # [..., T] softmax cross-entropy in nats, NaN where no prediction counts
    weight: Any  # [..., T] number of predictions that count, 0..B


class Lifetime(Protocol):
    """What to do with the task of one lifetime. Hashable: compiled programs are found again by it."""

    def __call__(self, spec: TaskSpec, shared: Any, task: Task, key: Key) -> Outcomes:
        """Pure and traced; `shared` is what all lifetimes read, `key` determines the initial state."""
        ...


@dataclass(frozen=True)
class Online:
    """Unrolls `learner`; what lifetimes share is its meta-parameters."""

    learner: Learner

    def __call__(self, spec: TaskSpec, shared: Params, task: Task, key: Key) -> Outcomes:
        state = self.learner.initial_state(shared, key, spec)
        return predict_online(self.learner, shared, state, task)


def predict_online(learner: Learner, params: Params, state: State, task: Task) -> Outcomes:
    """Runs one lifetime: every example is predicted, then learned from. Returns leaves [T]."""
    _, logits = unroll(learner, params, state, task.x, task.y)
    # argmax finds a class in NaNs too; a prediction that is no prediction is wrong.
    right = (jnp.argmax(logits, -1) == jnp.argmax(task.y, -1)) & jnp.isfinite(logits).all(-1)
    loss = optax.softmax_cross_entropy(logits, task.y)
    weight = task.mask.sum(-1)

    def mean(values: Array) -> Array:
        total = jnp.where(task.mask > 0, values * task.mask, 0).sum(-1)
        return jnp.where(weight > 0, total / jnp.maximum(weight, 1), jnp.nan)

    return Outcomes(mean(right.astype(jnp.float32)), mean(loss), weight)


def run_lifetimes(
    lifetime: Lifetime, shared: Any, tasks: TaskDistribution, lifetimes: int, seed: int, chunk: int | None = None
) -> Outcomes:
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
    for start in range(0, lifetimes, size):
        # The last chunk is filled up with the first lifetimes, so that one program serves all; they are cut off below.
        indices = np.arange(start, start + size) % lifetimes
        keys = _lifetime_keys(jax.random.key(seed), indices)
        sampled = _sample(tasks, num_devices, data, keys)
        chunks.append(jax.device_get(_live(lifetime, tasks.spec, num_devices, shared, sampled, keys)))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:lifetimes], *chunks)


@jax.jit
def _lifetime_keys(key: Key, indices: Array) -> Key:
    """Keys [n, 2] of the task and of the initial state of each lifetime."""
    return jax.vmap(lambda index: jax.random.split(jax.random.fold_in(key, index)))(indices)


@partial(jax.jit, static_argnums=(0, 1))
def _sample(tasks: TaskDistribution, num_devices: int, data: Any, keys: Key) -> Task:
    return _spread(num_devices, lambda data, keys: jax.vmap(lambda k: tasks.sample(data, k[0]))(keys))(data, keys)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _live(lifetime: Lifetime, spec: TaskSpec, num_devices: int, shared: Any, sampled: Task, keys: Key) -> Outcomes:
    def on_device(shared: Any, of_lifetimes: tuple[Task, Key]) -> Outcomes:
        return jax.vmap(lambda task, k: lifetime(spec, shared, task, k[1]))(*of_lifetimes)

    return _spread(num_devices, on_device)(shared, (sampled, keys))


def _spread(num_devices: int, on_device: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Splits the second argument's leading axis over devices; all of them see the first one.

    Lifetimes are independent: without collectives, nothing here can wait for another device or host.
    """
    mesh = Mesh(np.asarray(jax.local_devices()[:num_devices]), ("device",))
    everywhere, split = PartitionSpec(), PartitionSpec("device")
    return jax.shard_map(on_device, mesh=mesh, in_specs=(everywhere, split), out_specs=split, check_vma=False)


def accuracies(outcomes: Outcomes) -> dict[str, dict[str, float]]:
    """Statistics over lifetimes of what a lifetime's predictions were worth.

    Args:
      outcomes: leaves [lifetimes, T].

    Returns:
      `cumulative_accuracy`: mean over the counted predictions of a lifetime; `final_accuracy`: over those of the last
      tenth of the steps that count (one at least); `loss` in nats, over all that count. Each as by `statistics`.
    """
    last = _last_steps(outcomes.weight > 0)
    return {
        "cumulative_accuracy": statistics(_mean(outcomes.correct, outcomes.weight)),
        "final_accuracy": statistics(_mean(outcomes.correct, outcomes.weight * last)),
        "loss": statistics(_mean(outcomes.loss, outcomes.weight)),
    }


def statistics(values: np.ndarray) -> dict[str, float]:
    """Mean, standard deviation and half width of the 95 % interval of the mean of one value per lifetime.

    The deviation is that of a sample (n - 1); the interval is Student's, t_{n-1}(.975) std / sqrt(n).
    """
    from scipy.special import stdtrit  # a fifth of what `vsml eval` needs to start, not needed until it ends

    with np.errstate(invalid="ignore", over="ignore"):  # a diverged learner's loss is not finite, and is shown so
        mean, std = float(np.mean(values)), float(np.std(values, ddof=1))
    quantile = float(stdtrit(len(values) - 1, 0.975))
    return {"mean": mean, "std": std, "interval95": quantile * std / len(values) ** 0.5}


def _mean(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted mean of each lifetime: [lifetimes, T] -> [lifetimes], in double precision."""
    if not weight.any(axis=1).all():
        raise UserError("the mask of some task leaves no example to count: let each lifetime count one or more")
    counted = np.where(weight > 0, values, 0).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.sum(counted * weight, axis=1) / np.sum(weight, axis=1, dtype=np.float64)


def _last_steps(counted: np.ndarray) -> np.ndarray:
    """The last tenth, but one at least, of the steps that count in each lifetime: bool [lifetimes, T]."""
    number = np.maximum(1, (counted.sum(axis=1, keepdims=True) * LAST_SHARE).astype(int))
    counted_from_here = np.cumsum(counted[:, ::-1], axis=1)[:, ::-1]
    return counted & (counted_from_here <= number)
