"""A learned algorithm in Python: what a run or an exported file holds, at work on arrays of one's own.

    load(SOURCE) -> LearnedAlgorithm      .online(x, y)          a whole lifetime at once
                                          .begin(inputs, classes) -> Lifetime     example by example
                                          .init, .predict, .learn                 functions for a loop of one's own

Example: inputs of 7 numbers in 3 classes, whatever the algorithm was meta-trained on.

>>> import numpy as np, vsml
>>> algorithm = vsml.load("runs/quickstart")
>>> x, y = np.random.default_rng(0).normal(size=(20, 7)), np.arange(20) % 3
>>> outputs = algorithm.online(x, y)  # each made before its label is shown
>>> outputs.shape
(20, 3)
>>> lifetime = algorithm.begin(inputs=7, outputs=3)
>>> for example, label in zip(x, y):
...     output = lifetime.predict(example)
...     lifetime.learn(label)
>>> bool(np.allclose(output, outputs[-1], atol=1e-4))
True

The same with functions that have no side effects, under jit, vmap and scan:

>>> import jax
>>> def step(state, example):
...     x, label = example
...     state, output = algorithm.predict(state, x)
...     return algorithm.learn(state, x, output, label), output
>>> state = algorithm.init(jax.random.key(0), inputs=7, outputs=3)
>>> state, outputs = jax.jit(lambda state: jax.lax.scan(step, state, (x.astype(np.float32), y)))(state)
>>> bool(np.allclose(output, outputs[-1], atol=1e-4))
True
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from numpy.typing import ArrayLike

from vsml.config import Config
from vsml.cost import count
from vsml.errors import UserError
from vsml.experiment import Experiment
from vsml.hardware import products_in
from vsml.learners.base import Learner
from vsml.learners.unroll import unroll
from vsml.runs import sources
from vsml.runs.meta_parameters import MetaParameters
from vsml.tasks.base import Feedback, TaskSpec
from vsml.tasks.supervised import ClassificationTask
from vsml.types import Array, Key, Params, State


def load(source: str | Path) -> LearnedAlgorithm:
    """Reads a learned algorithm. Neither the data of meta-training nor its optimizer has to be there.

    Args:
      source: a run directory (its newest checkpoint), a checkpoint of one (`runs/quickstart@300`,
        `runs/quickstart@best`), a file of `vsml export` or `pretrained:NAME`.

    Raises:
      UserError: there is no such run, checkpoint or file, or it is damaged, or its parts are not there.
    """
    path, which = sources.find(str(source), "vsml.load")
    return _built(str(source), path, sources.of_path(path, which))


def _built(source: str, path: Path, found: MetaParameters) -> LearnedAlgorithm:
    """The algorithm of meta-parameters from a path; `source` is what people call it."""
    config = sources.config_of(path, found)
    experiment = config.build()
    specs = tuple(sources.task_specs(found.about))
    learner = experiment.learner_in_use
    if mismatch := found.mismatch(wanted := learner.params_shapes(specs[0])):
        raise UserError(f"{source}: its meta-parameters do not fit the learner of its config ({mismatch})")
    about = {key: value for key, value in found.about.items() if key not in ("config", "specs")}
    return LearnedAlgorithm(learner, found.fill(wanted), config, experiment, specs, about, found)


def _unpickled(arrays: dict[str, np.ndarray], about: dict[str, Any]) -> LearnedAlgorithm:
    return _built("a pickled algorithm", Path(about["recipe"]), MetaParameters(arrays, about))


OPEN_ENDED = 10_000
"""Length of a lifetime that goes on example by example, for learners that make room for what they will see."""


@dataclass(frozen=True, eq=False, repr=False)
class LearnedAlgorithm:
    """A learner with the meta-parameters that were found for it, which nothing here changes.

    Inputs should be scaled as in meta-training; all shipped recipes standardise to mean 0 and standard deviation 1.
    Nothing here does that by itself; `vsml.VSMLClassifier` does, while inputs come.

    Attributes:
      learner: the learner; `learner.predict` and `learner.learn` take and return states.
      params: V_M, host arrays.
      config: the config of the run: `.text` is gin, `.json` plain data.
      experiment: everything that the config builds, such as `experiment.tasks` and `experiment.evaluators`.
      specs: shapes of the tasks of meta-training, one per member of a mixture.
      about: `recipe`, `step` (meta-steps), `seconds` of meta-training, `versions`, `started_from`.
      saved: what it was read from: the arrays by name.
    """

    learner: Learner
    params: Params
    config: Config
    experiment: Experiment
    specs: tuple[TaskSpec, ...]
    about: Mapping[str, Any]
    saved: MetaParameters

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles hold what a file of `vsml export` holds, and nothing of this machine."""
        return _unpickled, (dict(self.saved.arrays), dict(self.saved.about))

    def __deepcopy__(self, memo: Any) -> LearnedAlgorithm:
        """Itself: nothing changes it."""
        return self

    def __repr__(self) -> str:
        name = f"learners.{type(self.learner).__name__}"
        return f"<{name} of {self.about['recipe']} after {self.step} meta-steps, |V_M| = {count(self.params):,}>"

    @property
    def step(self) -> int:
        """Meta-steps that were taken."""
        return self.about["step"]

    def online(self, x: ArrayLike, y: ArrayLike, outputs: int | None = None, seed: int = 0) -> np.ndarray:
        """Runs one lifetime of classification: each example is predicted, then learned from, in the order given.

        Args:
          x: [T, *input_shape], numbers.
          y: [T], labels 0, 1, ...
          outputs: number of classes; None for the largest label + 1.
          seed: of the initial state.

        Returns:
          Logits [T, outputs] float32, each made before its label is shown.

        Raises:
          UserError: the arrays have other shapes or contents, or the learner cannot work on such tasks.
        """
        x, y = _numbers("x", x), np.asarray(y)
        if x.ndim < 2 or y.shape != x.shape[:1]:
            raise UserError(f"x is of shape {x.shape}, y of {y.shape}: give x as [T, inputs] and y as [T] labels")
        labels = _labels(y, outputs)
        if outputs is None and len(labels) and not labels.any():
            raise UserError("all labels are 0, so there is nothing to tell apart: give outputs, the number of classes")
        spec = self._spec(x.shape[1:], int(labels.max(initial=0)) + 1 if outputs is None else outputs, len(x))
        _check_told(spec, "error", "target")
        with self._precision:
            logits = _live(self.learner, spec, self.params, jax.random.key(seed), x, labels)
        return np.asarray(logits)

    def begin(self, inputs: int | tuple[int, ...], outputs: int, seed: int = 0) -> Lifetime:
        """Begins a lifetime that goes on example by example.

        Args:
          inputs: numbers of an input, or the shape of one.
          outputs: classes, or length of an output.
          seed: of the initial state.

        Raises:
          UserError: the learner cannot work on such tasks.
        """
        return Lifetime(self, self.spec(inputs, outputs), seed)

    def init(self, key: Key, inputs: int | tuple[int, ...], outputs: int) -> LifetimeState:
        """The state of a lifetime that begins; a function without side effects, as the next two.

        Args:
          key: of the random numbers in it.
          inputs: numbers of an input, or the shape of one.
          outputs: classes.

        Raises:
          UserError: the learner cannot work on such tasks.
        """
        spec = self.spec(inputs, outputs)
        return LifetimeState(self.learner.initial_state(self.params, key, spec), spec)

    def predict(self, state: LifetimeState, x: Array) -> tuple[LifetimeState, Array]:
        """A prediction.

        Args:
          state: from `init` or `learn`.
          x: an input [*input_shape], scaled as in meta-training: unlike `vsml.VSMLClassifier` this does not standardise
            it. An input that is not finite is not refused, and spoils the state.

        Returns:
          The state after it, for `learn` alone, and the logits [outputs].

        Raises:
          UserError: x is of another shape.
        """
        _check_shape("x", x, state.spec.input_shape)
        with self._precision:
            inner, output = self.learner.predict(self.params, state.state, x[None])
        return replace(state, state=inner), output[0]

    def learn(self, state: LifetimeState, x: Array, output: Array, label: Array | int) -> LifetimeState:
        """The state after the label of the input that was just predicted.

        Args:
          state: from `predict`.
          x: what was predicted, [*input_shape].
          output: what `predict` gave for it, [outputs].
          label: 0 to outputs - 1. Any other is refused where its value is known, and under jit, vmap or scan taken for
            an example of no class.

        Raises:
          UserError: one of them is of another shape, or there is no such label.
        """
        _check_shape("x", x, state.spec.input_shape)
        _check_shape("output", output, (state.spec.num_outputs,))
        _check_shape("label", label, ())
        if not isinstance(label, Tracer):
            label = _labels(np.asarray(label)[None], state.spec.num_outputs)[0]
        feedback = feedback_of(label, output[None])
        with self._precision:
            return replace(state, state=self.learner.learn(self.params, state.state, x[None], feedback))

    def spec(self, inputs: int | tuple[int, ...], outputs: int) -> TaskSpec:
        """The shape of a task. Raises `UserError` where the meta-parameters do not fit it."""
        shape = (inputs,) if isinstance(inputs, int) else tuple(inputs)
        return self._spec(shape, outputs, OPEN_ENDED)

    def _spec(self, input_shape: tuple[int, ...], outputs: int, length: int) -> TaskSpec:
        """The shape of a task, which the meta-parameters fit."""
        if min((outputs, length, *input_shape), default=0) < 1:
            raise UserError(f"an input of shape {input_shape}, {outputs} outputs, {length} examples: give 1 or more")
        spec = TaskSpec(input_shape, outputs, length, feedback=self.specs[0].feedback)
        if self.learner.params_shapes(spec) != self.learner.params_shapes(self.specs[0]):
            trained = " or ".join(f"{shape.input_shape} and {shape.num_outputs} outputs" for shape in self.specs)
            raise UserError(
                f"the meta-parameters of learners.{type(self.learner).__name__} depend on the task: they fit inputs of "
                f"shape {trained}, as in meta-training, not {input_shape} and {outputs} outputs"
            )
        return spec

    @property
    def _precision(self) -> Any:
        return products_in(self.experiment.precision)


@partial(jax.tree_util.register_dataclass, data_fields=["state"], meta_fields=["spec"])
@dataclass(frozen=True)
class LifetimeState:
    """The state of a lifetime for `LearnedAlgorithm.init`, `predict` and `learn`, a pytree.

    Attributes:
      state: V_L and messages in flight, as `learner` takes them.
      spec: shape of the task.
    """

    state: State
    spec: TaskSpec


class Lifetime:
    """One lifetime of a learned algorithm: `predict` an input, then `learn` from its answer, and so on.

    A prediction that no `learn` follows leaves no trace.

    Attributes:
      spec: shape of the task.
      state: V_L and messages in flight, before the next prediction; it may be kept and put back.
    """

    def __init__(self, algorithm: LearnedAlgorithm, spec: TaskSpec, seed: int) -> None:
        self.spec = spec
        self._algorithm = algorithm
        self._predicted: tuple[State, Array, Array] | None = None  # the state of a prediction, its input, its output
        self.state: State = algorithm.learner.initial_state(algorithm.params, jax.random.key(seed), spec)

    def predict(self, x: ArrayLike) -> np.ndarray:
        """The output for an input of `spec.input_shape`: [num_outputs] float32, logits in classification."""
        example = _numbers("x", x)
        if example.shape != self.spec.input_shape:
            raise UserError(f"x is of shape {example.shape}, this lifetime has inputs of {self.spec.input_shape}")
        algorithm, example = self._algorithm, jnp.asarray(example)[None]
        with algorithm._precision:
            state, output = _predict(algorithm.learner, algorithm.params, self.state, example)
        self._predicted = state, example, output
        return np.asarray(output[0])

    def learn(self, answer: int | np.integer | Feedback) -> None:
        """Takes in what answers the last prediction.

        Args:
          answer: the label of a classification; or, in any other task, the `vsml.tasks.Feedback` of the kinds that the
            algorithm was meta-trained with, without a batch axis: `Feedback(error=output - y, target=y)` in a
            regression.

        Raises:
          UserError: nothing was predicted before it, or it is no such answer.
        """
        if self._predicted is None:
            raise UserError("learn() answers a prediction: call predict(x) before each")
        state, x, output = self._predicted
        feedback = self._batch(answer) if isinstance(answer, Feedback) else self._labelled(answer, output)
        algorithm = self._algorithm
        with algorithm._precision:
            self.state = _learn(algorithm.learner, algorithm.params, state, x, feedback)
        self._predicted = None

    def _labelled(self, label: Any, output: Array) -> Feedback:
        _check_told(self.spec, "error", "target")
        labels = _labels(np.asarray(label)[None], self.spec.num_outputs)
        if labels.shape != (1,):
            raise UserError(f"a label is of shape {labels.shape[1:]}: give one number, or a vsml.tasks.Feedback")
        return feedback_of(labels[0], output)

    def _batch(self, feedback: Feedback) -> Feedback:
        """Feedback as learners take it, checked."""
        given = {name: _numbers(name, value) for name, value in feedback._asdict().items() if value is not None}
        _check_told(self.spec, *(name for name in given if name != "given"))
        for name, value in given.items():
            shape = (self.spec.num_outputs,) if name in ("error", "target") else ()
            if value.shape != shape:
                raise UserError(f"the {name} is of shape {value.shape}: give {shape}")
        return Feedback(**{name: jnp.asarray(value)[None] for name, value in given.items()})


def _check_shape(name: str, value: ArrayLike, shape: tuple[int, ...]) -> None:
    """Raises `UserError` where an array is not of a shape."""
    if np.shape(value) != shape:
        raise UserError(f"{name} is of shape {np.shape(value)}: give one of shape {shape}, as init was told")


def _numbers(name: str, values: ArrayLike) -> np.ndarray:
    """Finite float32 numbers. Raises `UserError` for anything else."""
    try:
        with np.errstate(over="ignore"):
            numbers = np.asarray(values).astype(np.float32)
    except (ValueError, TypeError):
        raise UserError(f"{name} holds something else than numbers, or rows of unlike length: give an array") from None
    if not np.isfinite(numbers).all():
        raise UserError(f"{name} holds numbers that are not finite in float32: leave them out or scale them")
    return numbers


def _labels(y: np.ndarray, classes: int | None) -> np.ndarray:
    """Labels int32 in 0..classes-1. Raises `UserError` for anything else."""
    if not (np.issubdtype(y.dtype, np.integer) or y.dtype == bool):
        raise UserError(f"labels are of type {y.dtype}: give whole numbers 0, 1, ... (y.astype(int))")
    last = "..." if classes is None else str(classes - 1)
    outside = (y < 0) | (y >= (np.iinfo(np.int32).max if classes is None else classes))
    if outside.any():
        raise UserError(f"a label is {y[outside][0]}: labels are 0, 1, {last}")
    return y.astype(np.int32)


def _check_told(spec: TaskSpec, *given: str) -> None:
    """Raises `UserError` where feedback is not of the kinds that the algorithm was meta-trained with."""
    if set(given) != set(spec.feedback):
        raise UserError(
            f"this algorithm was meta-trained on {' and '.join(spec.feedback)}, and this answer tells "
            f"{' and '.join(given) or 'nothing'}: give lifetime.learn a vsml.tasks.Feedback of those kinds"
        )


def _classification(x: Any, labels: Any, classes: int) -> ClassificationTask:
    """A task of one labelled example per step."""
    return ClassificationTask(x[:, None], jax.nn.one_hot(labels, classes)[:, None], jnp.ones((len(x), 1)))


def feedback_of(label: Any, output: Array) -> Feedback:
    """What answers an output [1, classes]."""
    row = _classification(np.zeros((1, 1)), jnp.asarray(label)[None], output.shape[-1])
    return row.answer((), jax.tree.map(lambda leaf: leaf[0], row), output).feedback


@partial(jax.jit, static_argnums=(0, 1))
def _live(learner: Learner, spec: TaskSpec, params: Params, key: Key, x: Array, labels: Array) -> Array:
    state = learner.initial_state(params, key, spec)
    return unroll(learner, params, state, _classification(x, labels, spec.num_outputs)).outputs[:, 0]


@partial(jax.jit, static_argnums=0)
def _predict(learner: Learner, params: Params, state: State, x: Array) -> tuple[State, Array]:
    return learner.predict(params, state, x)


@partial(jax.jit, static_argnums=0)
def _learn(learner: Learner, params: Params, state: State, x: Array, feedback: Feedback) -> State:
    return learner.learn(params, state, x, feedback)
