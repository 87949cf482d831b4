"""One presentation: how far the probability of a label rises when an input is shown with it once.

    rise = p(label | input; state after the presentation) - p(label | input; state before it)

for the very input that is shown, for another input of its class, and for one of another class, which should stay. The
presentation is made on a copy of the state after the first n examples of a lifetime: the lifetime goes on without it.

Source: Kirsch & Schmidhuber 2021, arXiv 2012.14905, section 5 (Fig. 9).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from vsml.errors import UserError
from vsml.evaluation.base import Evaluation, Evaluator, Measure, Rival, named_after_data
from vsml.evaluation.baselines import Baselines
from vsml.evaluation.rollouts import check_classification, check_sizes, run_lifetimes
from vsml.evaluation.telling import evaluating
from vsml.fields import MAY_CHANGE
from vsml.hardware import NETWORKS_AT_ONCE
from vsml.learners.base import Learner
from vsml.tasks.base import Task, TaskDistribution, TaskSpec
from vsml.types import Array, Key, Params, State

ASKED = ("same_input", "same_class", "other_class")
"""What is predicted before and after: the input that is shown, another one of its class, one of another class."""


@dataclass(frozen=True)
class Shown:
    """A lifetime that shows one input of its last examples after some numbers of its first ones."""

    learner: Learner
    points: tuple[int, ...]

    def __call__(self, spec: TaskSpec, shared: Params, task: Task, key: Key) -> Array:
        """Probabilities of the label that is shown, [points, before and after, ASKED]; NaN where no input fits."""
        learner = self.learner
        inputs, labels = self._inputs_and_labels(task)
        place, fits = choose(labels)
        asked, label, shown = inputs[place], labels[place[0]], self.points[-1] + place[0]

        def step(state: State, index: Array) -> State:
            row = jax.tree.map(lambda leaf: leaf[index], task.steps)
            return learner.step(shared, state, task, task.world, row).state

        def probabilities(state: State) -> Array:
            outputs = jax.vmap(lambda x: learner.predict(shared, state, x[None])[1][0])(asked)
            return jnp.where(fits, jax.nn.softmax(outputs)[:, label], jnp.nan)

        def at(state: State, piece: Array) -> tuple[State, Array]:
            state = jax.lax.fori_loop(piece[0], piece[1], lambda index, state: step(state, index), state)
            return state, jnp.stack([probabilities(state), probabilities(step(state, shown))])

        pieces = jnp.asarray([(0, self.points[0]), *itertools.pairwise(self.points)])
        return jax.lax.scan(at, learner.initial_state(shared, key, spec), pieces)[1]

    def _inputs_and_labels(self, task: Task) -> tuple[Array, Array]:
        """The examples after the last point: [n, *input_shape] and [n]."""
        rows = jax.tree.map(lambda leaf: leaf[self.points[-1] :], task.steps)
        return task.see(task.world, rows)[:, 0], jnp.argmax(rows.y[:, 0], -1)


def choose(labels: Array) -> tuple[Array, Array]:
    """The first of some examples that has company: where it is, another one of its class, and one of another class.

    Args:
      labels: [n].

    Returns:
      Three indices, and whether there is such an example.
    """
    alike = labels[:, None] == labels[None, :]
    others = alike & ~jnp.eye(len(labels), dtype=bool)
    company = others.any(1) & ~alike.all(1)
    first = jnp.argmax(company)
    return jnp.stack([first, jnp.argmax(others[first]), jnp.argmax(~alike[first])]), company.any()


@dataclass(frozen=True)
class ShownAgain(Evaluator):
    """Shows an input once, and predicts it again.

    Attributes:
      name: of the evaluation, in `summary.json`, TensorBoard and file names; `{data}` in it is the name of the data.
      tasks: what each lifetime's task is drawn from, labelled examples one at a time. What follows the last point in a
        lifetime is what may be shown.
      points: after how many examples of a lifetime an input is shown, ascending.
      lifetimes: how many, one input each; 2 at least, since results are given with their spread.
      seed: of tasks and initial states.
      baselines: run on the very same tasks, shown beside; None for none.
      tuned_on: the learning rates of baselines are chosen on that many of the lifetimes, the first ones.
      chunk: lifetimes at once, which bounds memory; None for all.
    """

    name: str
    tasks: TaskDistribution
    points: tuple[int, ...] = (0, 10, 50, 200)
    lifetimes: int = 100
    seed: int = 0
    baselines: Baselines | None = None
    tuned_on: int = 32
    chunk: int | None = field(default=None, metadata=MAY_CHANGE)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", named_after_data(self.name, self.tasks))
        object.__setattr__(self, "points", tuple(self.points))
        who = "evaluators.ShownAgain"
        check_sizes(who, self.chunk, lifetimes=self.lifetimes, tuned_on=self.tuned_on)
        if not self.points or min(self.points) < 0 or list(self.points) != sorted(set(self.points)):
            raise UserError(f"{who}.points is {list(self.points)}: name numbers of examples, each once, ascending")

    def check(self) -> None:
        """Raises `UserError` where the data is missing or unlabelled, or lifetimes leave nothing to be shown."""
        who, spec = "evaluators.ShownAgain", self.tasks.spec
        check_classification(who, self.name, self.tasks)
        if spec.batch != 1:
            raise UserError(f"{who}: lifetimes of {self.name} have {spec.batch} examples per step: set batch to 1")
        needed = self.points[-1] + spec.num_outputs + 1  # then two of them are of one class
        if spec.length < needed:
            raise UserError(
                f"{who}.points ends at {self.points[-1]}, but lifetimes of {self.name} have {spec.length} examples: "
                f"with {spec.num_outputs} classes make them {needed} or longer, or lower points"
            )

    def run(self, learner: Learner, params: Params) -> Evaluation:
        """Evaluates a learner.

        Returns:
          Scores `rise_same_input`, `rise_same_class` and `rise_other_class`: means over the points. Curves
          [lifetimes, points] of the same, and `before`, the probability of the right class before the presentation,
          for `same_input`; `after` likewise. Rivals are `baselines`.
        """
        self.check()
        found = self._probabilities(learner, jax.device_get(params), self.chunk)
        rivals = {}
        if self.baselines is not None:
            tuned_on = min(self.lifetimes, self.tuned_on)
            for key, rival in self.baselines.found(self.tasks, tuned_on, self.seed).items():
                with evaluating(rival.label):
                    scores, curves = _scores_and_curves(self._probabilities(rival.learner, {}, NETWORKS_AT_ONCE))
                rivals[key] = Rival(rival.label, scores, rival.facts, curves)
        scores, curves = _scores_and_curves(found)
        places = {"places": self.points, "axis": "examples learned before"}
        titles = {f"rise_{name}": f"rise, {name.replace('_', ' ')}" for name in ASKED}
        probability = {"limits": (0.0, 1.0), "chance": 1 / self.tasks.spec.num_outputs}
        return Evaluation(
            self.name,
            scores,
            headline="rise_same_input",
            rivals=rivals,
            curves=curves,
            facts={"examples": self.tasks.spec.length},
            measures={
                **{name: Measure(title, **places) for name, title in titles.items()},
                "before": Measure("p(right class) before an input is shown", **probability, **places),
                "after": Measure("p(right class) after an input is shown", **probability, **places),
            },
            note=(
                "Rise: what one presentation of an input adds to the probability of its label, for this input, another "
                f"of its class, and one of another class; mean after {', '.join(map(str, self.points))} examples."
            ),
        )

    def interim(self) -> None:
        """Not during meta-training."""
        return

    def _probabilities(self, learner: Learner, params: Params, chunk: int | None) -> np.ndarray:
        """As by `Shown`, [lifetimes, points, 2, ASKED]."""
        return run_lifetimes(Shown(learner, self.points), params, self.tasks, self.lifetimes, self.seed, chunk)


def _scores_and_curves(probabilities: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    before, after = probabilities[:, :, 0], probabilities[:, :, 1]
    rises = {f"rise_{name}": (after - before)[..., index] for index, name in enumerate(ASKED)}
    return {name: rise.mean(1) for name, rise in rises.items()}, {
        **rises,
        "before": before[..., 0],
        "after": after[..., 0],
    }
