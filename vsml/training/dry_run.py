"""What an experiment would need: everything is built from shapes alone, nothing is compiled or run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
from jax.extend import core

from vsml.config import Config
from vsml.cost import count, flops, peak_bytes
from vsml.errors import UserError
from vsml.experiment import Experiment
from vsml.learners.base import Learner
from vsml.runs.meta_parameters import by_name
from vsml.tasks.base import TaskDistribution, TaskSpec
from vsml.training.meta_step import build_meta_step, init_estimator, init_state
from vsml.training.parallel import AXIS, choose_devices
from vsml.training.starting import read_start
from vsml.types import Params


def shapes_of_learner(learner: Learner, specs: Sequence[TaskSpec]) -> tuple[Params, Any]:
    """Shapes of the meta-parameters, and of the learned variables of one lifetime of one example at a time.

    With several task distributions, the shapes for the one with the most learned variables.
    """

    def build(key: jax.Array, spec: TaskSpec) -> tuple[Params, Any]:
        params = learner.init(key, spec)
        return params, learner.learned_variables(learner.initial_state(params, key, spec))

    shapes = [jax.eval_shape(partial(build, spec=replace(spec, batch=1)), jax.random.key(0)) for spec in specs]
    return max(shapes, key=lambda shape: count(shape[1]))


def check_meta_parameters(experiment: Experiment) -> None:
    """Raises `UserError` where there are no meta-parameters to train, or shares of a mixture need different ones."""
    name = type(experiment.learner).__name__
    shapes = [experiment.learner.params_shapes(share.tasks.spec) for share in experiment.shares]
    try:
        by_name(shapes[0], "params")
    except ValueError as error:
        raise UserError(f"learners.{name}: {error}") from None
    if not jax.tree.leaves(shapes[0]):
        raise UserError(
            f"learners.{name} has no meta-parameters, so there is nothing to meta-train: choose another LEARNER, or "
            "use it as a baseline of an evaluator"
        )
    for share, shape in zip(experiment.shares, shapes, strict=True):
        if shape != shapes[0]:
            raise UserError(
                f"learners.{name} has other meta-parameters for tasks of {share.name} than for those of "
                f"{experiment.shares[0].name}: a mixture of shapes needs learners.VSML with shared ones, "
                "or transforms that make all shapes alike (transforms.Resize, transforms.Pad)"
            )
    if experiment.learner_in_use.params_shapes(experiment.spec) != shapes[0]:
        raise UserError(
            f"train.deployed has meta-parameters of other shapes than learners.{name}, which is meta-trained: change "
            "only settings that keep them"
        )


def check_evaluators(experiment: Experiment) -> None:
    """Raises `UserError` where an evaluator cannot run, or its tasks need meta-parameters of other shapes."""
    for evaluator in experiment.evaluators:
        evaluator.check()
        tasks = getattr(evaluator, "tasks", None)
        if not isinstance(tasks, TaskDistribution):
            continue
        try:
            learner = experiment.learner_in_use
            fits = learner.params_shapes(tasks.spec) == learner.params_shapes(experiment.spec)
        except UserError as error:
            raise UserError(f"evaluator {evaluator.name}: {error}") from None
        if not fits:
            raise UserError(
                f"evaluator {evaluator.name}: its tasks need meta-parameters of other shapes than those that are "
                "trained: change its tasks, or leave it out"
            )


def meta_step_jaxpr(experiment: Experiment, num_devices: int) -> core.Jaxpr:
    """The jaxpr of one device's share of a meta-step."""
    data = experiment.load()
    state = jax.eval_shape(lambda: init_state(experiment))
    estimator = jax.eval_shape(lambda s: init_estimator(experiment, s.params, data), state)
    share = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((leaf.shape[0] // num_devices, *leaf.shape[1:]), leaf.dtype), estimator
    )
    function = build_meta_step(experiment, num_devices)
    return jax.make_jaxpr(function, axis_env=[(AXIS, num_devices)])(state, share, data).jaxpr


def dry_run(config: Config, num_devices: int | None = None) -> str:
    """Builds everything from shapes alone and says what a run would need.

    Args:
      config: the resolved config.
      num_devices: devices to use; None as `choose_devices` says.

    Returns:
      The resolved config and, below it, sizes, FLOPs and memory.

    Raises:
      UserError: whatever would stop the run before its first meta-step.
    """
    experiment = config.build()
    check_meta_parameters(experiment)
    check_evaluators(experiment)
    members = [share.members for share in experiment.shares]
    num_devices = len(choose_devices(experiment.population, num_devices, members))
    read_start(experiment)
    params, learned = shapes_of_learner(experiment.learner, experiment.specs)
    jaxpr = meta_step_jaxpr(experiment, num_devices)
    rows = {
        **{f"task {share.name}".rstrip(): _task(share.tasks.spec) for share in experiment.shares},
        "meta-parameters |V_M|": f"{count(params):,}",
        "learned variables |V_L|": f"{count(learned):,} per lifetime",
        **_sizes(experiment),
        "meta-steps": f"{experiment.steps:,} of a population of {experiment.population} on {num_devices} device(s)",
        "FLOPs per meta-step": f"{_scaled(flops(jaxpr) * num_devices, 1000, '')}FLOP in all",
        "memory per device": f"{_scaled(peak_bytes(jaxpr), 1024, 'i')}B at most, the data set included",
    }
    width = max(map(len, rows))
    return "\n".join([config.operative.rstrip(), "", *(f"{name:<{width}}  {value}" for name, value in rows.items())])


def _task(spec: TaskSpec) -> str:
    shape = "x".join(map(str, spec.input_shape))
    return f"{shape} inputs, {spec.num_outputs} outputs, {spec.length} steps of {spec.batch} example(s)"


def _sizes(experiment: Experiment) -> dict[str, str]:
    """Further sizes of the learner, by share of the population."""
    return {
        f"{name} {share.name}".rstrip(): f"{number:,}"
        for share in experiment.shares
        for name, number in experiment.learner.describe(share.tasks.spec).items()
    }


def _scaled(number: float, base: int, infix: str) -> str:
    """A number with a unit prefix: 1.5 G, or 1.5 Gi for powers of 1024."""
    prefixes = ["", *(prefix + infix for prefix in "kMGTPE")]
    exponent = 0 if number < base else min(int(math.log(number, base)), len(prefixes) - 1)
    return f"{number / base**exponent:.3g} {prefixes[exponent]}"
