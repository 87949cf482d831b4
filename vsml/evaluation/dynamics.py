"""What moves inside a learner over a lifetime: how fast its learned variables change, which ones matter, messages.

An entry is one row of V_L, as h[3] of all sub-RNNs. Its time scale is where the autocorrelation over a lifetime falls
below 1/e, each unit without its mean over time:

    C(k) = mean_{t, units} d_t d_{t+k}      d_t = v_t - mean_t v_t      time scale = min k: C(k) < C(0) / e

Slow entries would be weights, fast ones activations. Whether they are is tried: after n examples the lifetime goes on
with some entries frozen (before each prediction they are put back to what they were after example n) or reset (put back
to what they were before the first example): the slow ones, the fast ones, and the k fastest or slowest for several k.

Messages: the norm of what a neuron is sent, root of the mean square over neurons.

Source: Kirsch & Schmidhuber 2021, arXiv 2012.14905, section 5, which looks at outputs; time scales and trials are this
project's.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vsml.errors import UserError
from vsml.evaluation.base import Evaluation, Evaluator, Measure, named_after_data
from vsml.evaluation.rollouts import Outcomes, check_learned, check_sizes, mean_over_steps, outcomes_of, run_lifetimes
from vsml.evaluation.telling import evaluating
from vsml.fields import MAY_CHANGE
from vsml.learners.base import Learner
from vsml.learners.held import learned_leaves, with_leaves
from vsml.learners.unroll import unroll
from vsml.tasks.base import Task, TaskDistribution, TaskSpec
from vsml.types import Array, Key, Params, State

TRIALS = ("accuracy", "slow_frozen", "fast_frozen", "all_frozen", "slow_reset", "fast_reset")
"""Scores: which entries are held and how; none in the first."""
CUTS = 8
"""Parts into which the entries are cut, by their time scale, to be held one after the other."""


class Trial(NamedTuple):
    """What is put back before each prediction."""

    held: Any  # [entries], which entries
    reset: Any  # whether to what they were before the first example; else to what they were when learning stopped


class Watched(NamedTuple):
    """What was seen of a lifetime."""

    autocovariance: Any  # [T / 2, entries]
    messages: Any  # by name, [T]: norms


@dataclass(frozen=True)
class Watch:
    """A lifetime, told by what moves in it; of each entry so many units at most."""

    learner: Learner
    units: int

    def __call__(self, spec: TaskSpec, shared: Params, task: Task, key: Key) -> Watched:
        learner = self.learner

        def live(carry: tuple[State, Any], row: Any) -> tuple[tuple[State, Any], Any]:
            state, world = carry
            x = task.see(world, row)
            step = learner.step(shared, state, task, world, row)
            feedback = task.answer(world, row, step.output).feedback
            sent = learner.messages(shared, step.predicted, x, feedback)
            norms = {name: jnp.sqrt(jnp.mean(jnp.sum(jnp.square(message), 1))) for name, message in sent.items()}
            leaves = jax.tree.leaves(learner.learned_variables(step.state))
            return (step.state, step.world), ([some_units(leaf, self.units) for leaf in leaves], norms)

        start = (learner.initial_state(shared, key, spec), task.world)
        _, (signals, norms) = jax.lax.scan(live, start, task.steps)
        return Watched(jnp.concatenate([autocovariance(signal) for signal in signals], 1), norms)


def some_units(leaf: Array, units: int) -> Array:
    """A leaf of V_L as entries of at most so many units, [entries, units]: axis 1 has the entries, if there is one."""
    rows = leaf.reshape(1, -1) if leaf.ndim < 2 else jnp.moveaxis(leaf, 1, 0).reshape(leaf.shape[1], -1)
    chosen = np.random.default_rng(0).permutation(rows.shape[1])[:units]
    return rows[:, chosen]


def autocovariance(signal: Array) -> Array:
    """Of lags 0..T/2: [T, entries, units] -> [T / 2, entries], a mean over time and units."""
    length = signal.shape[0]
    moving = signal - signal.mean(0, keepdims=True)
    spectrum = jnp.fft.rfft(moving, 2 * length, axis=0)
    power = jnp.square(jnp.abs(spectrum)).mean(-1)
    lags = max(1, length // 2)
    return jnp.fft.irfft(power, axis=0)[:lags] / (length - jnp.arange(lags))[:, None]


def time_scale(autocovariance: np.ndarray) -> np.ndarray:
    """Where [..., lags, entries] falls below 1/e of lag 0, between lags by a straight line: [..., entries].

    The longest lag where it does not fall so far, or where nothing moves.
    """
    start = autocovariance[..., :1, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        falling = np.where(start > 0, autocovariance / start, 1.0)
    lags, level = falling.shape[-2], np.exp(-1)
    below = falling < level
    first = np.where(below.any(-2), below.argmax(-2), lags - 1)
    high = np.take_along_axis(falling, np.maximum(first - 1, 0)[..., None, :], -2)[..., 0, :]
    low = np.take_along_axis(falling, first[..., None, :], -2)[..., 0, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below.any(-2), first - 1 + (high - level) / (high - low), lags - 1)


def entries(learner: Learner, params: Params, spec: TaskSpec) -> tuple[list[str], list[int]]:
    """The names of the entries of V_L, such as `h 3`, and how many each leaf has."""
    learned = jax.eval_shape(
        lambda p, key: learner.learned_variables(learner.initial_state(p, key, spec)), params, jax.random.key(0)
    )
    paths = jax.tree_util.tree_leaves_with_path(learned)
    sizes = [leaf.shape[1] if leaf.ndim > 1 else 1 for _, leaf in paths]
    named = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]
    if all(name.startswith("0/") for name in named):  # of one layer
        named = [name.removeprefix("0/") for name in named]
    return [f"{name} {i}".strip() for name, size in zip(named, sizes, strict=True) for i in range(size)], sizes


def trials(scales: np.ndarray, slow: float) -> tuple[Trial, np.ndarray]:
    """What is tried, given the time scales of the entries and where slow begins.

    Returns:
      `Trial` with leading axis: `TRIALS`, then the k fastest reset for each k, then the k slowest frozen for each k;
      and these k.
    """
    is_slow, none = scales >= slow, np.zeros(len(scales), bool)
    rank = np.argsort(np.argsort(scales, kind="stable"), kind="stable")
    cuts = np.unique(np.linspace(0, len(scales), CUTS + 1).round().astype(int))
    held = [none, is_slow, ~is_slow, ~none, is_slow, ~is_slow]
    held += [rank < k for k in cuts] + [rank >= len(scales) - k for k in cuts]
    reset = [False] * 4 + [True] * (2 + len(cuts)) + [False] * len(cuts)
    return Trial(np.asarray(held), np.asarray(reset)), cuts


@dataclass(frozen=True)
class Held:
    """A lifetime that learns from its first steps, and lives the others once for each trial."""

    learner: Learner
    learned: int
    sizes: tuple[int, ...]  # entries of each leaf of V_L

    def __call__(self, spec: TaskSpec, shared: tuple[Params, Trial], task: Task, key: Key) -> Outcomes:
        """Outcomes with leaves [trials, T]; `shared` has V_M and the trials."""
        params, all_trials = shared
        learner = self.learner
        start = learner.initial_state(params, key, spec)
        which = learned_leaves(learner, start)
        first = jax.tree.map(lambda leaf: leaf[: self.learned], task.steps)
        rest = jax.tree.map(lambda leaf: leaf[self.learned :], task.steps)
        begun = unroll(learner, params, start, task, steps=first)

        def live_on(trial: Trial) -> Outcomes:
            masks = jnp.split(trial.held, np.cumsum(self.sizes)[:-1])

            def hold(state: State) -> State:
                now, kept, fresh = map(jax.tree.leaves, (state, begun.state, start))
                held = []
                for index, mask in zip(which, masks, strict=True):
                    value = jnp.where(trial.reset, fresh[index], kept[index])
                    held.append(jnp.where(_along_entries(mask, value), value, now[index]))
                return with_leaves(state, which, held)

            def live(carry: tuple[State, Any], row: Any) -> tuple[tuple[State, Any], Any]:
                step = learner.step(params, hold(carry[0]), task, carry[1], row)
                return (step.state, step.world), (step.output, step.outcome)

            _, told = jax.lax.scan(live, (begun.state, begun.world), rest)
            whole = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), (begun.outputs, begun.outcomes), told)
            return outcomes_of(task, *whole)

        return jax.lax.map(live_on, all_trials)


def _along_entries(mask: Array, leaf: Array) -> Array:
    """A mask of entries in the shape of their leaf."""
    return mask.reshape(()) if leaf.ndim < 2 else mask.reshape((1, -1, *(1,) * (leaf.ndim - 2)))


@dataclass(frozen=True)
class Dynamics(Evaluator):
    """Measures how fast each entry of V_L changes, and tries which ones matter; norms of messages beside.

    Attributes:
      name: of the evaluation, in `summary.json`, TensorBoard and file names; `{data}` in it is the name of the data.
      tasks: what each lifetime's task is drawn from, labelled examples.
      learned: n, the steps after which entries are held.
      slow: time scale from which an entry counts as slow, in steps.
      lifetimes: how many; 2 at least, since results are given with their spread.
      seed: of tasks and initial states.
      units: of each entry, at most so many units are watched.
      chunk: lifetimes at once, which bounds memory; None for all.
    """

    name: str
    tasks: TaskDistribution
    learned: int = 200
    slow: float = 10.0
    lifetimes: int = 32
    seed: int = 0
    units: int = 256
    chunk: int | None = field(default=None, metadata=MAY_CHANGE)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", named_after_data(self.name, self.tasks))
        check_sizes("evaluators.Dynamics", self.chunk, lifetimes=self.lifetimes)
        for name in ("learned", "units"):
            if getattr(self, name) < 1:
                raise UserError(f"evaluators.Dynamics.{name} is {getattr(self, name)}: set it to 1 or more")
        if self.slow <= 0:
            raise UserError(f"evaluators.Dynamics.slow is {self.slow}: set it above 0")

    def check(self) -> None:
        """Raises `UserError` where the data is missing, tasks know no accuracy, or nothing is left to predict."""
        check_learned("evaluators.Dynamics", self.name, self.tasks, self.learned)

    def run(self, learner: Learner, params: Params) -> Evaluation:
        """Evaluates a learner.

        Returns:
          Scores, accuracies over the steps after `learned`, by `TRIALS`: nothing held, slow, fast or all entries
          frozen, slow or fast ones reset. Curves: `time_scale` [lifetimes, entries]; accuracies `fastest_reset` and
          `slowest_frozen` [lifetimes, k], with the k fastest entries reset and the k slowest ones frozen; and norms of
          messages by layer, [lifetimes, T], of learners that send some. Facts: `slow_entries` and `fast_entries`.
        """
        self.check()
        spec, shared = self.tasks.spec, jax.device_get(params)
        names, sizes = entries(learner, shared, spec)
        watched = self._lifetimes(Watch(learner, self.units), shared)
        scales = time_scale(watched.autocovariance.mean(0))
        tried, cuts = trials(scales, self.slow)
        with evaluating("frozen and reset entries"):
            outcomes = self._lifetimes(Held(learner, self.learned, tuple(sizes)), (shared, tried))
        late = slice(self.learned, None)
        weight = outcomes.weight[:, 0, late]
        accuracies = np.stack(
            [mean_over_steps(one[:, late], weight) for one in outcomes.measures["accuracy"].swapaxes(0, 1)], 1
        )
        _, reset, frozen = np.split(accuracies, [len(TRIALS), len(TRIALS) + len(cuts)], axis=1)
        share = Measure(limits=(0.0, 1.0), chance=1 / spec.num_outputs)
        titles = {f"messages_{name}": name.replace("_", " messages, layer ") for name in watched.messages}
        by_cut = {"places": tuple(map(float, cuts)), "axis": f"entries of V_L, of {len(scales)}"}
        return Evaluation(
            self.name,
            dict(zip(TRIALS, accuracies.T, strict=False)),
            headline="slow_frozen",
            curves={
                "time_scale": time_scale(watched.autocovariance),
                "fastest_reset": reset,
                "slowest_frozen": frozen,
                **{f"messages_{name}": norms for name, norms in watched.messages.items()},
            },
            facts={
                "examples": spec.length * spec.batch,
                "learned": self.learned * spec.batch,
                "chance": share.chance,
                "slow_entries": int((scales >= self.slow).sum()),
                "fast_entries": int((scales < self.slow).sum()),
            },
            measures={
                **dict.fromkeys(TRIALS, share),
                "time_scale": Measure("time scale (steps)", places=tuple(names), axis="entry of V_L"),
                "fastest_reset": replace(share, title="accuracy, fastest entries reset", **by_cut),
                "slowest_frozen": replace(share, title="accuracy, slowest entries frozen", **by_cut),
                **{name: Measure(f"norm of {title}") for name, title in titles.items()},
            },
            note=(
                f"Accuracy after {self.learned * spec.batch} examples, learning going on but for entries that are held "
                f"before each prediction. Slow: time scale of {self.slow:g} steps or more. Frozen: as after these "
                "examples. Reset: as before the first one."
            ),
        )

    def interim(self) -> None:
        """Not during meta-training."""
        return

    def _lifetimes(self, lifetime: Any, shared: Any) -> Any:
        return run_lifetimes(lifetime, shared, self.tasks, self.lifetimes, self.seed, self.chunk)
