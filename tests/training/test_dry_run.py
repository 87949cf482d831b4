"""What a run would take, against counts by hand; and that finding out leaves nothing behind."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from runs import TINY, call

from vsml.cost import count, flops, peak_bytes

X, W = jnp.zeros((3, 4)), jnp.zeros((4, 5))
MATMUL = 2 * 3 * 4 * 5
"""Multiplications and additions of X @ W."""


def jaxpr_of(function: Any, *arguments: Any) -> Any:
    return jax.make_jaxpr(function)(*arguments).jaxpr


def times_in_a_loop(x: Any, w: Any) -> Any:
    return jax.lax.scan(lambda carry, _: (jnp.tanh(carry @ w), None), x, None, length=7)[0]


SQUARE = jnp.zeros((4, 4))


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        (lambda x, w: x @ w, (X, W), MATMUL),
        (lambda x, w: jnp.einsum("nij,njk->nik", x, w), (jnp.zeros((6, 3, 4)), jnp.zeros((6, 4, 5))), 6 * MATMUL),
        (lambda x: x + x, (X,), 12),
        (lambda x: x.sum(), (X,), 12),  # as many additions as numbers
        (lambda x: x.max(axis=0), (X,), 12),
        (lambda x: x.T.reshape(-1)[None], (X,), 0),  # nothing is computed
        (times_in_a_loop, (X, SQUARE), 7 * (2 * 3 * 4 * 4 + 12)),
        (jax.jit(lambda x, w: x @ w), (X, W), MATMUL),
        (lambda x: jax.lax.cond(x[0, 0] > 0, lambda: x * x * x, lambda: x), (X,), 1 + 2 * 12),  # test, dearest branch
    ],
    ids=["matmul", "batched", "add", "sum", "max", "moves", "scan", "jit", "cond"],
)
def test_flops_by_hand(function: Any, arguments: Any, expected: int):
    jaxpr = jaxpr_of(function, *arguments)
    assert flops(jaxpr) == expected, jaxpr


def test_a_gradient_takes_three_times_its_product():
    """d|xw|^2: forward once, then once for either factor."""
    loss = lambda x, w: ((x @ w) ** 2).sum()  # noqa: E731
    forward = flops(jaxpr_of(loss, X, W))
    both = flops(jaxpr_of(jax.grad(loss, argnums=(0, 1)), X, W))
    assert forward == MATMUL + 15 + 15  # the square, the sum
    assert 3 * MATMUL <= both <= 3 * MATMUL + 6 * 15


def test_a_gradient_through_a_loop_counts_every_turn():
    loss = lambda x: times_in_a_loop(x, SQUARE).sum()  # noqa: E731
    once = 2 * 3 * 4 * 4
    assert 7 * 2 * once <= flops(jaxpr_of(jax.grad(loss), X)) <= 7 * (2 * once + 8 * 12) + 2 * 12


def test_rematerialising_is_counted():
    plain = lambda x: times_in_a_loop(x, SQUARE).sum()  # noqa: E731
    extra = flops(jaxpr_of(jax.grad(jax.checkpoint(plain)), X)) - flops(jaxpr_of(jax.grad(plain), X))
    assert extra >= 7 * 2 * 3 * 4 * 4


KIB = jnp.zeros(256)
"""1 KiB of float32."""


@pytest.mark.parametrize(
    ("function", "arguments", "kibibytes"),
    [
        (lambda a: a + 1, (KIB,), 2),  # argument and result
        (lambda a: ((a + 1) * 2) - 3, (KIB,), 2),  # each is free once the next is there
        (lambda a: ((a + 1) * 2) - a, (KIB,), 3),  # but the argument is used to the end
        (lambda a, b: a, (KIB, KIB), 2),
        (lambda a: (a + 1, a * 2), (KIB,), 3),
        (lambda a: jnp.broadcast_to(a, (8, 256)).sum(0), (KIB,), 8 + 1),  # the argument goes before the result comes
        (jax.jit(lambda a: ((a + 1) * 2) - 3), (KIB,), 3),  # a caller holds on to what it passes
        (jax.jit(lambda a: jnp.broadcast_to(a[:1] + 1, (1024,)) * 2), (jnp.zeros(2048),), 8 + 4 + 4),
        (lambda a: jax.lax.scan(lambda c, _: (c + 1, c), a, None, length=10), (KIB,), 1 + 1 + 10 + 1),
        (lambda a: a.astype(jnp.bfloat16), (KIB,), 1.5),
    ],
    ids=["add", "chain", "kept", "unused", "two results", "wide", "inside", "large arguments", "scan", "half"],
)
def test_peak_memory_by_hand(function: Any, arguments: Any, kibibytes: float):
    jaxpr = jaxpr_of(function, *arguments)
    assert peak_bytes(jaxpr) == kibibytes * 1024, jaxpr


def test_random_keys_and_shapes_are_counted():
    assert peak_bytes(jaxpr_of(lambda k: jax.random.key_data(k), jax.random.key(0))) == 8 + 8
    assert count({"a": jax.ShapeDtypeStruct((3, 4), jnp.float32), "b": jnp.zeros(())}) == 13


def rows(text: str) -> dict[str, str]:
    """The lines below the config: two columns."""
    return dict(re.split(r"  +", line, maxsplit=1) for line in text.split("\n\n")[-1].splitlines())


def quickstart(capfd, *arguments: str) -> dict[str, str]:
    outcome = call(capfd, "train", "quickstart", "EVALUATORS=[]", *arguments, "--dry_run")
    assert (outcome.code, outcome.err) == (0, "")
    return rows(outcome.out)


def test_sizes_of_the_quickstart(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = quickstart(capfd)
    assert found["meta-parameters |V_M|"] == "2,384"
    assert found["sub-RNNs"] == "640"  # 64 inputs x 10 outputs
    assert found["learned variables |V_L|"] == "20,480 per lifetime"  # of 16 + 16 numbers
    assert found["task"] == "8x8x1 inputs, 10 outputs, 100 steps of 1 example(s)"
    assert re.fullmatch(r"\d+(\.\d+)? [GM]FLOP in all", found["FLOPs per meta-step"])
    assert re.fullmatch(r"\d+(\.\d+)? [kM]iB at most, the data set included", found["memory per device"])
    assert list(tmp_path.iterdir()) == []


def test_sizes_of_the_paper(capfd):
    mnist = ("tasks.Classification.source=@sources.Random()", "tasks.Classification.transforms=[]", "LENGTH=20")
    found = quickstart(capfd, *mnist)
    assert found["meta-parameters |V_M|"] == "2,384"
    assert found["learned variables |V_L|"] == "250,880 per lifetime"
    assert found["sub-RNNs"] == "7,840"
    assert quickstart(capfd, *mnist, "cells.LSTM.layer_norm=True")["meta-parameters |V_M|"] == "2,416"


def number(text: str) -> float:
    value, unit, *_ = text.split()
    scale = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "ki": 2**10, "Mi": 2**20, "Gi": 2**30}
    return float(value) * scale[unit.removesuffix("FLOP").removesuffix("B")]


def test_flops_follow_what_is_asked_for(capfd):
    """Twice the lifetimes, or twice their length: twice the work, on however many devices."""
    once, population, length, devices = (
        number(quickstart(capfd, "LENGTH=20", *changes)["FLOPs per meta-step"])
        for changes in ((), ("POPULATION=16",), ("LENGTH=40",), ("--devices", "1"))
    )
    assert population == pytest.approx(2 * once, rel=0.02)
    assert length == pytest.approx(2 * once, rel=0.1)
    assert devices == pytest.approx(once, rel=0.02)


def test_flops_of_a_lifetime_by_hand(capfd):
    """A pair of evolution strategies lives twice.

    Of a sub-RNN: 16 numbers to the 64 of the gates, and 16 to the 8 of either message. A message that arrives at a
    neuron meets its weights, 8 to 64, once for all of the neuron's sub-RNNs. What the 10 neurons behind hear is summed
    by a product, 640 to 10. The rest is one operation per number.
    """
    arguments = ("meta_optimizers/es.gin", "learners.VSML.feedback=delayed", "POPULATION=4", "LENGTH=20")
    found = number(quickstart(capfd, *arguments, "--devices", "1")["FLOPs per meta-step"])
    tick = 640 * (2 * 16 * 64 + 2 * 2 * 16 * 8) + (64 + 10) * 2 * 8 * 64 + 2 * 16 * 640 * 10
    products = 4 * 2 * 20 * tick
    assert products <= found <= 1.1 * products


def test_a_dry_run_is_refused_for_what_would_stop_the_run(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = call(capfd, "train", *TINY, "--devices", "3", "--dry_run")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert "a population of 4 cannot be spread evenly over 3 devices" in outcome.err
