"""What an experiment would take: everything is built by shapes alone, nothing is compiled or run."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import jax
from jax.extend import core

from vsml.analysis.cost import count, flops, peak_bytes
from vsml.config import Config
from vsml.experiment import Experiment
from vsml.training.meta_step import build_meta_step, init_estimator, init_state
from vsml.training.parallel import AXIS, choose_devices
from vsml.types import Params


def shapes_of_learner(experiment: Experiment) -> tuple[Params, Any]:
    """Shapes of the meta-parameters, and of the learned variables of one lifetime of one example at a time."""
    spec = replace(experiment.tasks.spec, batch=1)

    def build(key: jax.Array) -> tuple[Params, Any]:
        params = experiment.learner.init(key, spec)
        return params, experiment.learner.learned_variables(experiment.learner.initial_state(params, key, spec))

    return jax.eval_shape(build, jax.random.key(0))


def meta_step_jaxpr(experiment: Experiment, num_devices: int) -> core.Jaxpr:
    """The jaxpr of one device's share of a meta-step."""
    data = experiment.tasks.load()
    state = jax.eval_shape(lambda: init_state(experiment))
    estimator = jax.eval_shape(lambda s: init_estimator(experiment, s.params, data), state)
    share = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((leaf.shape[0] // num_devices, *leaf.shape[1:]), leaf.dtype), estimator
    )
    function = build_meta_step(experiment, num_devices)
    return jax.make_jaxpr(function, axis_env=[(AXIS, num_devices)])(state, share, data).jaxpr


def dry_run(config: Config, num_devices: int | None = None) -> str:
    """Builds everything by shapes alone and says what a run would take.

    Args:
      config: the resolved config.
      num_devices: devices to use; None as `choose_devices` says.

    Returns:
      The resolved config and, below it, sizes, FLOPs and memory.

    Raises:
      UserError: whatever would stop the run before its first meta-step.
    """
    experiment = config.build()
    num_devices = len(choose_devices(experiment.population, num_devices))
    params, learned = shapes_of_learner(experiment)
    jaxpr = meta_step_jaxpr(experiment, num_devices)
    spec = experiment.tasks.spec
    rows = {
        "task": f"{'x'.join(map(str, spec.input_shape))} inputs, {spec.num_classes} classes, "
        f"{spec.length} steps of {spec.batch} example(s)",
        "meta-parameters |V_M|": f"{count(params):,}",
        "learned variables |V_L|": f"{count(learned):,} per lifetime",
        **{name: f"{number:,}" for name, number in experiment.learner.describe(spec).items()},
        "meta-steps": f"{experiment.steps:,} of a population of {experiment.population} on {num_devices} device(s)",
        "FLOPs per meta-step": f"{_scaled(flops(jaxpr) * num_devices, 1000, '')}FLOP in all",
        "memory per device": f"{_scaled(peak_bytes(jaxpr), 1024, 'i')}B at most, the data set included",
    }
    width = max(map(len, rows))
    return "\n".join([config.operative.rstrip(), "", *(f"{name:<{width}}  {value}" for name, value in rows.items())])


def _scaled(number: float, base: int, infix: str) -> str:
    """A number with a unit prefix: 1.5 G, or 1.5 Gi for powers of 1024."""
    prefixes = ["", *(prefix + infix for prefix in "kMGTPE")]
    exponent = 0 if number < base else min(int(math.log(number, base)), len(prefixes) - 1)
    return f"{number / base**exponent:.3g} {prefixes[exponent]}"
