"""Which known learning algorithm it is like: how often two predict the same, beyond what their accuracies explain.

    agree_t = [argmax y^_t = argmax z^_t]         e_t = a_t b_t + (1 - a_t) (1 - b_t) / (C - 1)
    kappa = sum_t (agree_t - e_t) / sum_t (1 - e_t)

of outputs y^ and z^ of two learners that live through the same lifetime. a_t and b_t are their accuracies at example t,
over lifetimes: e_t is how often they agree if they err independently and in any way. kappa is 1 for the same
predictions, 0 where accuracy explains the agreement. Some images are hard for whoever learns, so it is above 0 between
any two: what tells is which rival has the highest. Same errors: how often both name the same class where both are
wrong. The ceiling is the learner beside itself, begun from another initial state.

Source: J. Cohen 1960, "A coefficient of agreement for nominal scales", with the chance agreement of two classifiers of
given accuracies, example by example, in the place of that of two raters.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from vsml.errors import UserError
from vsml.evaluation.base import Evaluation, Evaluator, Measure, Rival, named_after_data
from vsml.evaluation.baselines import Baselines
from vsml.evaluation.rollouts import check_classification, check_sizes, mean_over_steps, run_lifetimes
from vsml.evaluation.telling import evaluating
from vsml.fields import MAY_CHANGE
from vsml.hardware import NETWORKS_AT_ONCE
from vsml.learners.base import Learner
from vsml.learners.unroll import unroll
from vsml.tasks.base import Task, TaskDistribution, TaskSpec, snake_case
from vsml.types import Key, Params

ITSELF = "itself, begun again"


class Predicted(NamedTuple):
    """What was predicted in lifetimes, and what would have been right."""

    classes: Any  # [..., T, B]; -1 where an output is not finite
    labels: Any  # [..., T, B]
    weight: Any  # [..., T, B]


@dataclass(frozen=True)
class Predictions:
    """A lifetime, told by its predictions. Another `begin` is another initial state on the same task."""

    learner: Learner
    begin: int = 0

    def __call__(self, spec: TaskSpec, shared: Params, task: Task, key: Key) -> Predicted:
        key = jax.random.fold_in(key, self.begin) if self.begin else key
        outputs = unroll(self.learner, shared, self.learner.initial_state(shared, key, spec), task).outputs
        classes = jnp.where(jnp.isfinite(outputs).all(-1), jnp.argmax(outputs, -1), -1)
        return Predicted(classes, jnp.argmax(task.steps.y, -1), task.weight)


class Compared(NamedTuple):
    """Two learners, lifetime by lifetime; leaves [lifetimes, T], NaN where nothing counts."""

    agree: np.ndarray  # share of the examples of a step with the same prediction
    expected: np.ndarray  # what their accuracies explain of it, the same in all lifetimes
    same_error: np.ndarray  # 1 or 0 where both are wrong; a mean over the examples of a step

    @property
    def kappa(self) -> np.ndarray:
        """Agreement beyond accuracy of each lifetime; NaN where accuracies leave no other way."""
        known = np.isfinite(self.agree)
        gained = np.where(known, self.agree - self.expected, 0).sum(1)
        with np.errstate(invalid="ignore"):
            return gained / np.where(known, 1 - self.expected, 0).sum(1)

    @property
    def kappa_curve(self) -> np.ndarray:
        """The same of each example; its mean over lifetimes is kappa at that example."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.expected < 1, (self.agree - self.expected) / (1 - self.expected), np.nan)

    @property
    def same_errors(self) -> np.ndarray:
        """Share of the errors of both that are the same; where a lifetime has none, that of all lifetimes."""
        known = np.isfinite(self.same_error)
        total, count = np.where(known, self.same_error, 0).sum(1), known.sum(1)
        overall = total.sum() / count.sum() if count.any() else np.nan
        return np.where(count > 0, total / np.maximum(count, 1), overall)


def compare(first: Predicted, second: Predicted, num_classes: int) -> Compared:
    """Compares the predictions [lifetimes, T, B] of two learners on the same tasks.

    Accuracies by example are running means over lifetimes and a twentieth of their steps.
    """
    counts = first.weight > 0
    right = [counts & (one.classes == one.labels) for one in (first, second)]
    a, b = (_accuracy(each, counts) for each in right)
    same = first.classes == second.classes
    both_wrong = counts & ~right[0] & ~right[1]
    expected = a * b + (1 - a) * (1 - b) / (num_classes - 1)
    agree = _mean(same, counts)
    return Compared(agree, np.broadcast_to(expected, agree.shape), _mean(same, both_wrong))


def _mean(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Over the examples of a step: [lifetimes, T, B] -> [lifetimes, T], NaN where none counts."""
    number = counts.sum(-1)
    return np.where(number > 0, (values & counts).sum(-1) / np.maximum(number, 1), np.nan)


def _accuracy(right: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Over lifetimes, by step, a centred running mean: [T]; 0 where nothing counts near it."""
    width = max(1, right.shape[1] // 20)
    total, number = (np.pad(each.sum((0, 2)).astype(float), (width // 2, (width - 1) // 2)) for each in (right, counts))
    window = np.ones(width)
    total, number = (np.convolve(each, window, mode="valid") for each in (total, number))
    return total / np.maximum(number, 1)


@dataclass(frozen=True)
class Agreement(Evaluator):
    """Compares the predictions of a learner with those of known learning algorithms on the same lifetimes.

    Attributes:
      name: of the evaluation, in `summary.json`, TensorBoard and file names; `{data}` in it is the name of the data.
      tasks: what each lifetime's task is drawn from, labelled examples.
      baselines: compared with, tuned on the very lifetimes; None for none.
      learners: others to compare with, without meta-parameters, or as they are drawn.
      lifetimes: how many; 2 at least, since results are given with their spread.
      seed: of tasks and initial states.
      chunk: lifetimes at once, which bounds memory; None for all.
      interim_lifetimes: how many before the end of meta-training, the first ones; None for all.
    """

    name: str
    tasks: TaskDistribution
    baselines: Baselines | None = None
    learners: tuple[Learner, ...] = ()
    lifetimes: int = 32
    seed: int = 0
    chunk: int | None = field(default=None, metadata=MAY_CHANGE)
    interim_lifetimes: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", named_after_data(self.name, self.tasks))
        object.__setattr__(self, "learners", tuple(self.learners))
        who = "evaluators.Agreement"
        check_sizes(who, self.chunk, lifetimes=self.lifetimes, interim_lifetimes=self.interim_lifetimes)
        names = [type(learner).__name__ for learner in self.learners]
        if len(set(names)) != len(names):
            raise UserError(f"{who}.learners names {', '.join(names)}: name learners of different kinds")

    def check(self) -> None:
        """Raises `UserError` where the data is missing or not labelled."""
        check_classification("evaluators.Agreement", self.name, self.tasks)

    def run(self, learner: Learner, params: Params) -> Evaluation:
        """Evaluates a learner.

        Returns:
          Scores `beyond_accuracy` (kappa), `same_errors`, `agreement` and `cumulative_accuracy`: of each rival, which
          is one of `baselines` and `learners`, its agreement with the learner; of the learner its own with itself from
          another initial state. Curves [lifetimes, T]: `beyond_accuracy` and `same_errors`, NaN where nothing counts.
        """
        self.check()
        classes = self.tasks.spec.num_outputs
        shared = jax.device_get(params)
        own = self._predictions(Predictions(learner), shared)
        with evaluating(ITSELF):
            again = self._predictions(Predictions(learner, begin=1), shared)
        scores, curves = _scores_and_curves(own, again, own, classes)
        rivals = {}
        for key, (label, predicted) in self._rivals().items():
            beside, over_lifetime = _scores_and_curves(own, predicted, predicted, classes)
            rivals[key] = Rival(label, beside, curves=over_lifetime)
        share = Measure(limits=(0.0, 1.0))
        return Evaluation(
            self.name,
            scores,
            headline="beyond_accuracy",
            rivals=rivals,
            curves=curves,
            facts={"examples": self.tasks.spec.length * self.tasks.spec.batch, "chance": 1 / classes},
            measures={
                "beyond_accuracy": Measure("agreement beyond accuracy", limits=(-0.1, 1.0), chance=0.0),
                "same_errors": replace(share, chance=1 / (classes - 1)),
                "agreement": share,
                "cumulative_accuracy": replace(share, chance=1 / classes),
            },
            note=(
                "Agreement of each with the learned algorithm, whose own row is its agreement with itself from another "
                "initial state. Beyond accuracy: 1 for the same predictions, 0 where both accuracies explain it. Same "
                "errors: share of the same class where both are wrong."
            ),
        )

    def interim(self) -> Self:
        """On `interim_lifetimes`, with its rivals: what they predict is found once per process."""
        return replace(self, lifetimes=min(self.lifetimes, self.interim_lifetimes or self.lifetimes))

    def _predictions(self, lifetime: Predictions, shared: Params) -> Predicted:
        return run_lifetimes(lifetime, shared, self.tasks, self.lifetimes, self.seed, self.chunk)

    def _rivals(self) -> dict[str, tuple[str, Predicted]]:
        given = (self.tasks, self.lifetimes, self.seed)
        found: dict[str, tuple[str, Learner]] = {}
        if self.baselines is not None:
            found |= {key: (rival.label, rival.learner) for key, rival in self.baselines.found(*given).items()}
        for learner in self.learners:
            name = snake_case(type(learner).__name__)
            found[name] = (name.replace("_", " "), learner)
        predicted = {}
        for key, (label, learner) in found.items():
            with evaluating(label):
                predicted[key] = (label, _of_rival(learner, *given))
        return predicted


@lru_cache(maxsize=64)
def _of_rival(learner: Learner, tasks: TaskDistribution, lifetimes: int, seed: int) -> Predicted:
    """What a rival predicts; it does not depend on what is meta-trained."""
    params = learner.init(jax.random.key(seed), tasks.spec)
    return run_lifetimes(Predictions(learner), params, tasks, lifetimes, seed, NETWORKS_AT_ONCE)


def _scores_and_curves(
    own: Predicted, other: Predicted, accurate: Predicted, classes: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """How far two agree, with the cumulative accuracy of one of them."""
    compared = compare(own, other, classes)
    weight = own.weight.sum(-1)
    right = _mean(accurate.classes == accurate.labels, accurate.weight > 0)
    scores = {
        "beyond_accuracy": compared.kappa,
        "same_errors": compared.same_errors,
        "agreement": mean_over_steps(compared.agree, weight),
        "cumulative_accuracy": mean_over_steps(right, weight),
    }
    return scores, {"beyond_accuracy": compared.kappa_curve, "same_errors": compared.same_error}
