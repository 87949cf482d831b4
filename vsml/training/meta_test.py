"""Meta-test of a finished or half-finished run: its evaluators, as configured or with changes, on a saved V_M."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import jax

from vsml import config as configs
from vsml.errors import UserError
from vsml.experiment import Experiment
from vsml.training.checkpoints import Checkpoints
from vsml.training.meta_step import init_estimator, init_state
from vsml.training.parallel import Parallel, choose_devices
from vsml.training.run_directory import RunDirectory
from vsml.training.trainer import finish, summary_head
from vsml.types import Params

LONGEST_LABEL = 200
"""Characters; file systems take 255 bytes."""


def meta_test(directory: Path, overrides: Sequence[str], checkpoint: Literal["newest", "best"] | int) -> dict[str, Any]:
    """Evaluates the meta-parameters of a run.

    Without overrides and on the newest checkpoint this is what ends a run, and its `summary.json` is written anew.
    Anything else is kept apart, in `evaluations/LABEL/` with a `summary.json` of its own.

    Args:
      directory: a run directory.
      overrides: gin files and KEY=VALUE on top of the run's own config; they may change tasks and evaluators, and the
        learner as far as it takes the same meta-parameters.
      checkpoint: which one.

    Returns:
      The content of the summary.

    Raises:
      UserError: no such run or checkpoint, no evaluators, or meta-parameters that do not fit the changed learner.
    """
    run = RunDirectory(directory)
    recipe = run.saved_config()["recipe"]
    trained = configs.load(str(run.config_gin))
    tested = configs.load(str(run.config_gin), overrides)
    experiment = tested.build()
    if not experiment.evaluators:
        raise UserError(f"{directory}: its config names no evaluators: add some, as evaluators/paper.gin does")

    with closing(Checkpoints(run.checkpoints, read_only=True)) as checkpoints:
        step = checkpoints.find(checkpoint)
        params, seconds = _restore(trained.build(), checkpoints, step)
    _check_fit(experiment, params, directory)

    if overrides or step != experiment.steps:
        run = RunDirectory(run.evaluations / _label(overrides, step))
        run.create()
    head = summary_head(tested, experiment, len(jax.devices()), seconds)
    return finish(run, tested, experiment, params, {**head, "recipe": recipe, "meta_steps": step})


def _restore(experiment: Experiment, checkpoints: Checkpoints, step: int) -> tuple[Params, float]:
    """Meta-parameters and training seconds of a checkpoint, by way of one device, which divides any population."""
    parallel = Parallel(experiment.parallel, choose_devices(experiment.population, 1))
    data = experiment.load()
    state = parallel.replicate(init_state(experiment))
    estimator = parallel.spread(init_estimator(experiment, state.params, data))
    (state, _), meta = checkpoints.restore(step, (state, estimator))
    return jax.device_get(state.params), meta["seconds"]


def _check_fit(experiment: Experiment, params: Params, directory: Path) -> None:
    wanted = jax.eval_shape(lambda key: experiment.learner.init(key, experiment.spec), jax.random.key(0))
    shapes = [jax.tree.map(lambda leaf: leaf.shape, tree) for tree in (params, wanted)]
    if shapes[0] != shapes[1]:
        raise UserError(
            f"{directory}: its meta-parameters do not fit the learner that the overrides describe: change only what "
            "leaves the shapes of V_M as they are"
        )


def _label(overrides: Sequence[str], step: int) -> str:
    """A directory name for an evaluation; a long one is cut and told apart by a digest."""
    words = [re.sub(r"[^\w.=-]+", "_", override).strip("_") for override in overrides]
    label = "+".join([*words, f"step{step}"])
    digest = hashlib.sha256(label.encode()).hexdigest()[:8]
    return label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 9]}+{digest}"
