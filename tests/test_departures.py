"""The check that nothing leaves the device inside a program sees every way out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from departures import assert_stays_on_devices, departures
from jax.experimental import io_callback


def _printing(x: Any) -> Any:
    jax.debug.print("x = {}", x)
    return x + 1


def _asking(x: Any) -> Any:
    return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x)


def _telling(x: Any) -> Any:
    io_callback(lambda value: None, None, x)
    return x + 1


@pytest.mark.parametrize("function", [_printing, _asking, _telling])
@pytest.mark.parametrize("within", [lambda f: f, lambda f: lambda x: jax.lax.scan(lambda c, _: (f(c), ()), x, None, 3)])
def test_callbacks_are_seen(function: Callable[[Any], Any], within: Callable[[Any], Any]):
    program = jax.jit(within(function)).lower(jnp.ones(4)).compile()
    assert departures(program)
    with pytest.raises(AssertionError):
        assert_stays_on_devices(program)


def test_arithmetic_stays():
    def function(x: Any) -> Any:
        best, _ = jax.lax.top_k(x @ x, 2)
        return jnp.sort(
            jax.random.normal(jax.random.key(0), best.shape) + jnp.linalg.cholesky(x @ x.T + jnp.eye(4)).sum()
        )

    assert_stays_on_devices(jax.jit(function).lower(jnp.ones((4, 4))).compile())
