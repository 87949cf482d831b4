"""Cells, sharings and sparsities compose: every pair of them builds, equals its plain twin, and meta-trains.

All parts of the catalogue take part, so a new one joins by being there.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from pairwise import pairwise
from plain import Network, plain_lifetime
from runs import call, metrics
from stepping import live

from vsml.cells import LSTM
from vsml.config.catalogue import parts
from vsml.errors import UserError
from vsml.learners.vsml import VSML
from vsml.meta_optimizers import BPTT, ES
from vsml.meta_optimizers.base import EstimatorState, Population
from vsml.sharing import Grouped, Layerwise, Shared, Typed
from vsml.sparsity import Block, Conv, Dense, Local, Random
from vsml.tasks.base import TaskSpec

NUM_CLASSES, LENGTH = 3, 3
# Numbers are tested, not speed: without LLVM's optimisation programs compile in half the time.
SMALL: dict[str, Any] = {"size": 3, "gate_offset": 1.0, "groups": 3, "embedding_size": 2, "density": 0.4, "stride": 2}
"""What small parts are made with, as far as they have such a field."""

OPTIONS: dict[str, tuple[Any, ...]] = {
    "cell": tuple(part.name for part in parts("cells")),
    "sharing": tuple(part.name for part in parts("sharing")),
    "sparsity": tuple(part.name for part in parts("sparsity")),
    "reduction": ("mean", "sum", "sqrt"),
    "meta_optimizer": (ES, BPTT),
}


def _make(name: str, **options: Any) -> Any:
    (part,) = [part for part in parts(name.partition(".")[0]) if part.name == name]
    small = {field: value for field, value in SMALL.items() if field in part.fields}
    return part.make(**small, **options)


def _learner(choice: dict[str, Any]) -> VSML:
    """As small as tells the parts apart, since all the time goes into compiling: one layer where one will do."""
    sparsity, sharing = _make(choice["sparsity"]), _make(choice["sharing"])
    layers = {"sparsity": sparsity}
    if isinstance(sparsity, Conv):
        layers = {"sparsity": (sparsity, Dense()), "hidden": (2,)}
    elif isinstance(sharing, Layerwise | Typed):
        layers = {"sparsity": sparsity, "hidden": (5,)}
    return VSML(
        cell=_make(choice["cell"]),
        sharing=sharing,
        message_size=3,
        micro_ticks=1,
        reduction=choice["reduction"],
        feed_label=True,
        output_bound=None,
        **layers,
    )


def _draw(shapes: Any, seed: int, stddev: float) -> Any:
    """Large enough for every term to matter, biases included; drawn by NumPy, which has nothing to compile."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: jnp.asarray(stddev * rng.standard_normal(s.shape), s.dtype), shapes)


def _lifetime(learner: VSML, shape: tuple[int, ...] = (3, 4)) -> tuple[Any, Any, Any, Any]:
    """Meta-parameters, a state without messages in flight, inputs and labels."""
    spec, key, rng = TaskSpec(shape, NUM_CLASSES, LENGTH), jax.random.key(0), np.random.default_rng(2)
    params = _draw(jax.eval_shape(lambda k: learner.init(k, spec), key), seed=0, stddev=0.4)
    shapes = jax.eval_shape(lambda k: learner.initial_state(params, k, spec), key)
    silence = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
    x = jnp.asarray(rng.standard_normal((LENGTH, 1, *shape)), jnp.float32)
    y = jnp.asarray(np.eye(NUM_CLASSES)[rng.integers(0, NUM_CLASSES, (LENGTH, 1))], jnp.float32)
    return params, {**silence, "cells": _draw(shapes["cells"], seed=1, stddev=0.7)}, x, y


class Lifetimes:
    """The same lifetime, whatever the key."""

    def __init__(self, learner: VSML, *lifetime: Any) -> None:
        self.learner, self.lifetime = learner, lifetime

    def auto_segment(self, at_once: int) -> int:
        return LENGTH // at_once

    def loss(self, params: Any, key: Any, segment: int | None = None) -> tuple[Any, Any]:
        """The loss, and in place of metrics all that the twin is compared in."""
        del key, segment
        after, _, predictions, _, _ = live(self.learner, params, *self.lifetime)
        loss = optax.softmax_cross_entropy(predictions, self.lifetime[-1]).mean()
        return loss, (predictions, after["cells"])


@functools.partial(jax.jit, static_argnums=0)
def _live(learner: VSML, params: Any, *lifetime: Any) -> Any:
    return Lifetimes(learner, *lifetime).loss(params, key=None)[1]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _meta_step(learner: VSML, meta_optimizer: Any, params: Any, key: Any, *lifetime: Any) -> Any:
    """One step of SGD: the meta-parameters after it, and what the lifetime came to."""
    lifetimes = Lifetimes(learner, *lifetime)
    population = Population(key, key[None], size=1)
    gradient, _, outcome = meta_optimizer.gradient(params, EstimatorState(), population, lifetimes)
    return jax.tree.map(lambda p, g: p - 0.01 * g, params, gradient), outcome


def _key(seed: int) -> Any:
    """Its draws compile in a tenth of the time that the default generator's take."""
    return jax.random.key(seed, impl="rbg")


def _assert_equal(outcome: Any, expected: Any, network: Network) -> None:
    predictions, cells = jax.device_get(outcome)
    np.testing.assert_allclose(predictions[:, 0], expected, rtol=1e-5, atol=1e-5)
    for layer, cell in zip(network.layers, cells, strict=True):
        twin_cell = jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=1)[None], *layer.states)
        jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5), cell, twin_cell)


def _name(choice: dict[str, Any]) -> str:
    words = [getattr(value, "__name__", str(value)).rpartition(".")[2] for value in choice.values()]
    return "-".join(words)


@pytest.mark.parametrize("choice", pairwise(OPTIONS), ids=_name)
def test_every_pair_equals_its_plain_twin_and_meta_trains(choice):
    learner, meta_optimizer = _learner(choice), choice["meta_optimizer"]()
    params, *lifetime = _lifetime(learner)
    once, outcome = _meta_step(learner, meta_optimizer, params, _key(0), *lifetime)
    if isinstance(meta_optimizer, ES):  # it knows only what perturbed meta-parameters come to
        outcome = _live(learner, params, *lifetime)
    twice, _ = _meta_step(learner, meta_optimizer, once, _key(1), *lifetime)
    steps = jax.device_get([params, once, twice])
    for before, after in itertools.pairwise(steps):
        moved = jax.tree.map(lambda old, new: np.linalg.norm(new - old), before, after)
        assert 0 < sum(jax.tree.leaves(moved)) < np.inf

    expected, network = plain_lifetime(learner, params, *lifetime)
    assert np.ptp(expected) > 1e-2
    _assert_equal(outcome, expected, network)


STACKS = [
    ((Conv(2, 2),), (2, 2), (), Shared(separate_backward=True)),
    ((Conv(1, 1), Dense()), (3, 4), (2,), Layerwise()),
    ((Conv(3, 1), Conv(2, 3), Dense()), (4, 5, 2), (2, 3), Shared()),
    ((Conv(5, 2), Local(1)), (4, 3), (2,), Typed(embedding_size=2)),
    ((Conv(4, 3), Random(0.5), Block(2)), (5, 4), (2, 4), Grouped(groups=2, by="input")),
]
"""Wirings, shape of the input, hidden sizes, sharing."""


@pytest.mark.parametrize(("sparsity", "shape", "hidden", "sharing"), STACKS)
def test_stacks_of_wirings_equal_the_plain_twin(sparsity, shape, hidden, sharing):
    learner = VSML(
        LSTM(size=3, gate_offset=1.0),
        sharing=sharing,
        sparsity=sparsity,
        hidden=hidden,
        message_size=3,
        reduction="sqrt",
        feedback="backward_pass",
        recirculate=True,
        clear_feedback=isinstance(sharing, Typed),
    )
    params, *lifetime = _lifetime(learner, shape)
    _assert_equal(_live(learner, params, *lifetime), *plain_lifetime(learner, params, *lifetime))


STACK = """
SPARSITY = [@sparsity.Conv(), @sparsity.Local(), @sparsity.Random(), @sparsity.Dense()]
learners.VSML.hidden = [4, 16, 16]
sparsity.Conv.stride = 2
"""


@pytest.mark.usefixtures("compiled")
def test_a_stack_of_wirings_trains_from_the_command_line(tmp_path, capfd):
    (tmp_path / "stack.gin").write_text(STACK)
    recipe = ("recipes/quickstart.gin", tmp_path / "stack.gin", "optimizers/clipped_adam.gin", "cells.LSTM.size=4")
    small = ("STEPS=2", "POPULATION=4", "LENGTH=3", "learners.VSML.feedback=delayed", "EVALUATORS=[]")
    outcome = call(capfd, "train", *recipe, *small, "--run_dir", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    (entry,) = metrics(tmp_path / "run")
    assert entry["step"] == 2
    assert entry["skipped"] == 0
    assert entry["update_norm"] > 0


@pytest.mark.parametrize(
    ("part", "sub_rnns"),
    [
        ("conv", 9 * 1 * 4 + 8 * 8 * 4 * 10),  # taps x channels, positions x channels x classes
        ("local", 2 * (10 + 13 + 12 + 13 + 13)),  # inputs incoming by outputs 0 to 4, and by their mirror images
        ("random", 32 * 10),  # half of the inputs
        ("block", 2 * 32 * 5),
    ],
)
def test_a_dry_run_counts_the_sub_rnns_that_exist(part, sub_rnns, capfd):
    outcome = call(capfd, "train", "recipes/quickstart.gin", f"sparsity/{part}.gin", "--dry_run")
    assert outcome.code == 0, outcome.err
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("sub-RNNs")]
    assert line.split()[1] == f"{sub_rnns:,}"


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ({"sparsity": Conv()}, (3, 4), r"sparsity.Conv as the last layer .* let the last layer be @sparsity.Dense"),
        ({"sparsity": (Conv(), Dense()), "hidden": (2,)}, (12,), r"slides over images, but .* shape \(12,\)"),
        ({"sparsity": (Dense(), Conv()), "hidden": (9,)}, (3, 4), r"slides over images, but .* shape \(9,\)"),
        ({"sparsity": Block(4)}, (12,), "blocks is 4, but a layer of 12 x 3 neurons has room for 3"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(options, shape, message):
    with pytest.raises(UserError, match=message):
        VSML(LSTM(), **options).wirings(TaskSpec(shape, 3, length=1))
