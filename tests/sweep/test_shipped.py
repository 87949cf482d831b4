"""Every point of every shipped sweep is parsed, up to four of each are built and traced; one of each, and all of them
in the slow tests, take two tiny meta-steps."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from test_recipes import lines_of_header, noise_for_data

from vsml import config as configs
from vsml import sweep
from vsml.config import gin_root
from vsml.experiment import Experiment
from vsml.sweep import Point
from vsml.training.dry_run import check_meta_parameters
from vsml.training.meta_step import TrainState, build_meta_step, init_estimator, init_state
from vsml.training.parallel import Parallel

SWEEPS = sorted(path.relative_to(gin_root()).as_posix() for path in (gin_root() / "sweeps").glob("*.gin"))
TINY = ("STEPS=2", "POPULATION=5", "LENGTH=5")
AXES = {"cells", "feedback", "learners", "meta_optimizers", "sharing", "sharing_scale", "sizes", "sparsity", "tasks"}


def points(file: str) -> list[Point]:
    """The points of the first seed."""
    return [point for point in sweep.load(file).points if point.labels["seed"] == "0"]


def tiny(point: Point) -> configs.Config:
    """The config of a point, at the smallest budget and without evaluators."""
    budget = [setting for setting in TINY if setting.partition("=")[0] in point.config.json["macros"]]
    return configs.load(point.recipe, [*point.overrides, *budget, *noise_for_data(point.config), "EVALUATORS=[]"])


def experiments(of_file: Callable[[list[Point]], list[Point]]) -> dict[str, Any]:
    """The configs of points, by what they train: most sweeps have the recipe itself among their points."""
    found = {}
    for file in SWEEPS:
        for point in of_file(points(file)):
            config = tiny(point)
            found.setdefault(
                json.dumps(config.json["train"]), pytest.param(config, id=f"{Path(file).stem}-{point.name}")
            )
    return found


EVERY = experiments(lambda points: points)
SOME = experiments(lambda points: points[:: -(-len(points) // 4)])
"""Four of each sweep at most."""
LAST = experiments(lambda points: points[-1:])
"""One of each sweep."""


def test_there_is_one_for_every_axis():
    assert {Path(file).stem for file in SWEEPS} >= AXES


@pytest.mark.parametrize("file", SWEEPS)
def test_its_header_says_what_one_wants_to_know(file: str):
    first, *rest = lines_of_header(file)
    assert first.startswith("# ")
    assert first.endswith(".")
    text = "\n".join(rest)
    for field in ("Shows:", "Command:", "Overrides:"):
        assert f"# {field}" in text
    assert f"vsml sweep {file}" in text
    assert {point.labels["seed"] for point in sweep.load(file).points} == {"0", "1", "2"}


@pytest.mark.parametrize("config", [config for trained, config in SOME.items() if trained not in LAST])
def test_its_points_can_be_traced(config: configs.Config):
    experiment = config.build()
    check_meta_parameters(experiment)
    # Tracing the loop over meta-steps checks that a step gives back what it took.
    state, _, told = jax.eval_shape(functools.partial(two_meta_steps, experiment), experiment.load())
    assert state.params == jax.eval_shape(lambda: init_state(experiment)).params
    assert all(leaf.shape[0] == 2 for leaf in jax.tree.leaves(told))


@pytest.mark.parametrize("config", LAST.values())
def test_its_last_point_takes_two_meta_steps(config: configs.Config):
    assert_two_meta_steps(config)


@pytest.mark.slow
@pytest.mark.parametrize("config", EVERY.values())
def test_its_points_take_two_meta_steps(config: configs.Config):
    assert_two_meta_steps(config)


def assert_two_meta_steps(config: configs.Config) -> None:
    experiment = config.build()
    check_meta_parameters(experiment)
    state, estimator, told = jax.device_get(jax.jit(functools.partial(two_meta_steps, experiment))(experiment.load()))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state.params, estimator)))
    assert (state.step, state.skipped) == (2, 0)
    assert np.all((told["update_norm"] > 0) == (config.json["macros"]["LEARNING_RATE"] != 0))


def two_meta_steps(experiment: Experiment, data: Any) -> tuple[TrainState, Any, Any]:
    """State, members' state and metrics afterwards; on one device, without a run directory."""
    step = Parallel("shard_map", jax.devices()[:1]).over_devices(build_meta_step(experiment, 1))
    state = init_state(experiment)
    estimator = init_estimator(experiment, state.params, data)

    def meta_step(carry: Any, _: None) -> Any:
        state, estimator, told = step(carry[0], carry[1], data)
        return (state, estimator), told

    (state, estimator), told = jax.lax.scan(meta_step, (state, estimator), length=2)  # compiled once
    return state, estimator, told
