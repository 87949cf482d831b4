"""Precision of matrix products: float32 is exact, bfloat16 rounds operands and nothing else."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from vsml import config
from vsml.errors import UserError
from vsml.hardware.products import Precision, product, product_of_few, products_in
from vsml.training import trainer
from vsml.training.writers import read_metrics

TINY = ("STEPS=2", "POPULATION=2", "LENGTH=4", "cells.LSTM.size=4", "EVALUATORS=[@plain/evaluators.OnlineAccuracy()]")
SHORT = (
    "plain/tasks.HeldOut.length=4",
    "evaluators.OnlineAccuracy.lifetimes=2",
    "evaluators.OnlineAccuracy.baselines=None",
)


def operands() -> list[Any]:
    """Columns [5, 4] and inputs [5, 7]."""
    return [jax.random.normal(jax.random.key(n), (5, size)) for n, size in enumerate((4, 7))]


def rounded(x: Any) -> Any:
    return np.asarray(np.asarray(x).astype(ml_dtypes.bfloat16), np.float64)


def exact(x: Any) -> Any:
    return np.asarray(x, np.float64)


@pytest.mark.parametrize("function", [product, product_of_few])
@pytest.mark.parametrize(("precision", "operand"), [("float32", exact), ("bfloat16", rounded)])
def test_operands_are_rounded_as_asked(precision: Precision, operand: Any, function: Any):
    columns, inputs = operands()
    with products_in(precision):
        found = jax.jit(function)(columns, inputs)
    np.testing.assert_allclose(found, operand(columns).T @ operand(inputs), rtol=1e-5, atol=1e-6)


def test_rounding_shows():
    columns, inputs = operands()
    assert not np.allclose(rounded(columns).T @ rounded(inputs), exact(columns).T @ exact(inputs), rtol=1e-4)


@pytest.mark.parametrize("shape", [(5, 7), (5, 2, 3, 1)])
def test_a_product_of_few_has_the_values_and_slopes_of_a_product(shape: tuple[int, ...]):
    columns, inputs = operands()[0], jax.random.normal(jax.random.key(2), shape)

    def weighted(function: Any, columns: Any, inputs: Any) -> Any:
        found = function(columns, inputs)
        return jnp.sum(jnp.sin(3 * found)), found

    def plain(columns: Any, inputs: Any) -> Any:
        return jnp.einsum("kn,k...->n...", columns, inputs)

    np.testing.assert_allclose(product_of_few(columns, inputs), plain(columns, inputs), rtol=1e-5, atol=1e-6)
    found, expected = (
        jax.value_and_grad(partial(weighted, function), argnums=(0, 1), has_aux=True)(columns, inputs)
        for function in (product_of_few, plain)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected)


def trained(directory: Path, precision: str) -> tuple[float, float]:
    """The loss of the last meta-step and of the evaluation."""
    overrides = [*TINY, *SHORT, f"train.precision='{precision}'", "train.log_every=1"]
    summary = trainer.train(config.load("recipes/quickstart.gin", overrides), directory, num_devices=1)
    losses = [entry["loss"] for entry in read_metrics(directory / "metrics.jsonl")]
    assert len(losses) == 2
    return losses[0], summary["evaluations"]["digits_plain"]["loss"]["mean"]


def test_meta_training_and_evaluation_follow(tmp_path: Path):
    float32, bfloat16 = (trained(tmp_path / name, name) for name in ("float32", "bfloat16"))
    for one, other in zip(float32, bfloat16, strict=True):
        assert one != other
        assert one == pytest.approx(other, rel=0.02)


def test_another_precision_is_refused():
    with pytest.raises(UserError, match="bfloat16"):
        config.load("recipes/quickstart.gin", ["train.precision='float16'"]).build()
