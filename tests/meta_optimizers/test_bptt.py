"""BPTT against finite differences; what does not change its result; its memory at the paper's size."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from noise_tasks import NoiseTasks

from vsml.cells import LSTM
from vsml.errors import UserError
from vsml.learners.vsml import VSML
from vsml.meta_optimizers import BPTT, EstimatorState, Population
from vsml.objectives import OnlineMean
from vsml.sharing import Layerwise
from vsml.training.lifetimes import TaskLifetimes

LENGTH, MEMBERS = 10, 3
GIBIBYTE = 2**30
# Numbers are tested, not speed: without LLVM's optimisation programs compile in half the time.

SMALL = TaskLifetimes(
    VSML(LSTM(size=4, gate_offset=1.0), message_size=3, micro_ticks=1, reduction="sqrt"),
    NoiseTasks(length=LENGTH),
    OnlineMean(),
    data=(),
)
RICH = TaskLifetimes(
    VSML(
        LSTM(size=4, gate_offset=1.0, layer_norm=True),
        sharing=Layerwise(separate_backward=True),
        hidden=(2,),
        message_size=3,
        micro_ticks=1,
        reduction="sqrt",
        feedback="backward_pass",
        feed_label=True,
        recirculate=True,
    ),
    NoiseTasks(length=LENGTH, batch=2),
    OnlineMean(),
    data=(),
)


def _parameters(lifetimes: TaskLifetimes) -> Any:
    """Away from the start, where biases and LayerNorm offsets are 0."""
    shapes = jax.eval_shape(lambda k: lifetimes.learner.init(k, lifetimes.tasks.spec), jax.random.key(0))
    return _direction(shapes, seed=1, size=1.0)


def _direction(tree: Any, seed: int, size: float) -> Any:
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(size * rng.standard_normal(leaf.shape), leaf.dtype), tree)


def _moved(params: Any, along: Any, size: float) -> Any:
    return jax.tree.map(lambda p, d: p + size * d, params, along)


def _estimate(bptt: BPTT, lifetimes: TaskLifetimes, params: Any, keys: Any) -> Any:
    gradient, _, metrics = bptt.gradient(params, EstimatorState(), Population(keys[0], keys, len(keys)), lifetimes)
    return gradient, metrics


_gradient = jax.jit(_estimate, static_argnums=(0, 1))


@jax.jit
def _gradient_of_each(params: Any, keys: Any) -> Any:
    """Of the small lifetimes, one by one and without rematerialisation: leaves [members, ...]."""
    return jax.lax.map(lambda key: jax.grad(lambda p: SMALL.loss(p, key)[0])(params), keys)


def _pairs(one: Any, other: Any) -> Any:
    """Name and both leaves, for every leaf of two trees of one structure."""
    assert jax.tree.structure(one) == jax.tree.structure(other)
    with_paths = jax.tree_util.tree_leaves_with_path(one)
    return [(jax.tree_util.keystr(path), a, b) for (path, a), b in zip(with_paths, jax.tree.leaves(other), strict=True)]


@functools.partial(jax.jit, static_argnums=0)
def _mean_loss(lifetimes: TaskLifetimes, params: Any, keys: Any) -> Any:
    return jnp.mean(jax.lax.map(lambda key: lifetimes.loss(params, key)[0], keys))


@pytest.mark.parametrize("lifetimes", [SMALL, RICH], ids=["small", "rich"])
def test_equals_finite_differences(lifetimes):
    with jax.enable_x64(True):
        params, keys = _parameters(lifetimes), jax.random.split(jax.random.key(1), MEMBERS)
        gradient, metrics = _gradient(BPTT(segment=LENGTH), lifetimes, params, keys)
        np.testing.assert_allclose(metrics["loss"], _mean_loss(lifetimes, params, keys), rtol=1e-12)
        h, steepest = 3e-6, 0.0
        for seed in range(11, 16):
            along = _direction(params, seed, size=1.0)
            near, far = (
                _mean_loss(lifetimes, _moved(params, along, n * h), keys)
                - _mean_loss(lifetimes, _moved(params, along, -n * h), keys)
                for n in (1, 2)
            )
            difference = (8 * near - far) / (12 * h)
            slope = sum(jnp.vdot(g, d) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(along), strict=True))
            # Rounding: 1e-16 / h; truncation: h^4 times a fifth derivative.
            np.testing.assert_allclose(slope, difference, rtol=1e-8, atol=1e-9)
            steepest = max(steepest, abs(slope))
        assert steepest > 0.05


@pytest.mark.parametrize(
    "bptt",
    [
        *(BPTT(segment=segment) for segment in (None, 1, 7, LENGTH, LENGTH + 5)),
        *(BPTT(chunk=chunk) for chunk in (2, MEMBERS + 5)),
    ],
    ids=str,
)
def test_segment_and_chunk_change_nothing(bptt):
    with jax.enable_x64(True):
        params, keys = _parameters(SMALL), jax.random.split(jax.random.key(1), MEMBERS)
        gradient, _ = _gradient(bptt, SMALL, params, keys)
        expected = jax.tree.map(lambda leaf: leaf.mean(axis=0), _gradient_of_each(params, keys))
        for name, one, other in _pairs(gradient, expected):
            np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-13, err_msg=name)


def test_clip_is_of_each_lifetime():
    with jax.enable_x64(True):
        params, keys = _parameters(SMALL), jax.random.split(jax.random.key(1), MEMBERS)
        each = _gradient_of_each(params, keys)
        norms = np.sqrt(sum(np.sum(np.square(leaf.reshape(MEMBERS, -1)), axis=1) for leaf in jax.tree.leaves(each)))
        clip = float(np.median(norms))  # one lifetime is above it, one below
        shrunk = jnp.asarray(np.minimum(1.0, clip / norms))
        expected = jax.tree.map(lambda leaf: jnp.einsum("m,m...->...", shrunk, leaf) / MEMBERS, each)
        gradient, _ = _gradient(BPTT(clip=clip), SMALL, params, keys)
        for name, one, other in _pairs(gradient, expected):
            np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-13, err_msg=name)


def test_metrics_are_means_over_members():
    with jax.enable_x64(True):
        params, keys = _parameters(SMALL), jax.random.split(jax.random.key(1), MEMBERS)
        _, metrics = _gradient(BPTT(), SMALL, params, keys)
        loss = jax.jit(SMALL.loss)
        single = [loss(params, key)[1] for key in keys]
        assert metrics["accuracy_curve"].shape == (LENGTH,)
        for name, value in metrics.items():
            expected = np.mean([m[name] for m in single], axis=0)
            assert not np.allclose(expected, single[0][name])
            np.testing.assert_allclose(value, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"segment": 0}, "segment is 0"), ({"chunk": 0}, "chunk is 0"), ({"clip": 0.0}, r"clip is 0\.0")],
)
def test_mistakes_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        BPTT(**options)


# --------------------------------------------------------------------------------------------------------- memory


def _paper_gradient(length: int) -> tuple[Any, tuple[Any, Any]]:
    """The jitted meta-gradient at the paper's size, 784 -> 10 with all defaults, and shapes of its arguments."""
    lifetimes = TaskLifetimes(VSML(LSTM()), NoiseTasks(784, 10, length), OnlineMean(), data=())
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))
    params = jax.eval_shape(lambda k: lifetimes.learner.init(k, lifetimes.tasks.spec), jax.random.key(0))
    return jax.jit(lambda p, k: _estimate(BPTT(), lifetimes, p, k)), (params, keys)


def _planned_bytes(length: int) -> int:
    """What XLA's buffer assignment will allocate for one meta-gradient."""
    function, arguments = _paper_gradient(length)
    memory = function.lower(*arguments).compile().memory_analysis()
    return memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes


@pytest.mark.usefixtures("optimised")
def test_planned_memory_at_the_size_of_the_paper():
    short, long = _planned_bytes(500), _planned_bytes(2_000)
    # The states at 23 borders and in one segment of 22 examples alone are 45 times 2 * 16 * 7,840 floats.
    assert 45 * 2 * 16 * 7_840 * 4 < short < 2 * GIBIBYTE
    assert long < 2.5 * short


_MEASURE = """
import json, resource, sys
import jax
from test_bptt import _paper_gradient
function, (params, keys) = _paper_gradient(int(sys.argv[1]))
program = function.lower(params, keys).compile()
params = jax.tree.map(lambda leaf: 0.1 * jax.numpy.ones(leaf.shape), params)
key = jax.random.split(jax.random.key(0), 1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
gradient, metrics = jax.block_until_ready(program(params, key))
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert bool(jax.numpy.isfinite(metrics["loss"]))
planned = program.memory_analysis().temp_size_in_bytes
print(json.dumps({"grown": (after - before) * 1024, "peak": after * 1024, "planned": planned}))
"""


def _measured_bytes(length: int) -> dict[str, float]:
    """Of a fresh process: by how much one meta-gradient raises its peak of resident memory, and what was planned."""
    path = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path}
    outcome = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(length)], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(outcome.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
def test_a_run_takes_the_planned_memory_and_no_more():
    """What is measured is the step itself, not the compiler before it.

    Threads and copies of packed operands are not planned; they do not grow with the lifetime. Were the states of all
    examples kept, they alone would take `states`.
    """
    length = 2_000
    measured, states = _measured_bytes(length), length * 2 * 16 * 7_840 * 4
    assert measured["peak"] < 2 * GIBIBYTE
    assert measured["grown"] < measured["planned"] + 64 * 2**20
    assert measured["grown"] < states / 4
