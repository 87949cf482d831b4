"""Cells that break their contract end in one line that says how; written as a user would, outside the package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsml.cells import Cell
from vsml.errors import UserError
from vsml.learners.visit import visit
from vsml.sparsity import Dense

SETS: dict[str, Any] = {"one set": 0, "a set for each": np.arange(6)}


@dataclass(frozen=True)
class Good(Cell):
    """A leaky sum of messages, on which the bad ones below are built."""

    def init(self, key: Any, incoming: int, outgoing: int) -> Any:
        return {"leak": jnp.full(1, 0.5), "outgoing": jnp.ones((outgoing, 2))}

    def initial_state(self, key: Any, units: int, fan_in: int, random_share: float) -> Any:
        return {"s": jnp.zeros((2, units))}

    def update(self, params: Any, state: Any, forward_in: Any, backward_in: Any) -> Any:
        total = forward_in.sum(axis=0, keepdims=True) + backward_in.sum(axis=0, keepdims=True)
        return {**state, "s": params["leak"][:, None] * state["s"] + total}

    def messages(self, params: Any, state: Any, forward_in: Any, backward_in: Any, forward: Any, backward: Any) -> Any:
        outgoing = params["outgoing"] @ state["s"]
        return forward(outgoing), backward(outgoing)


class Counting(Good):
    def initial_state(self, key: Any, units: int, fan_in: int, random_share: float) -> Any:
        return {**super().initial_state(key, units, fan_in, random_share), "count": jnp.zeros((1, units), jnp.int32)}


class RowFirst(Good):
    def initial_state(self, key: Any, units: int, fan_in: int, random_share: float) -> Any:
        return {"s": jnp.zeros((units, 2))}


class Growing(Good):
    def update(self, params: Any, state: Any, forward_in: Any, backward_in: Any) -> Any:
        new = super().update(params, state, forward_in, backward_in)
        return {"s": jnp.concatenate([new["s"], new["s"]])}


class Rounding(Good):
    def update(self, params: Any, state: Any, forward_in: Any, backward_in: Any) -> Any:
        return {"s": super().update(params, state, forward_in, backward_in)["s"].astype(jnp.bfloat16)}


class Forgetting(Good):
    def update(self, params: Any, state: Any, forward_in: Any, backward_in: Any) -> Any:
        return {"t": super().update(params, state, forward_in, backward_in)["s"]}


SEEN: list[Any] = []
"""What `Remembering` keeps from its last start."""


class Remembering(Good):
    def initial_state(self, key: Any, units: int, fan_in: int, random_share: float) -> Any:
        SEEN[:] = [jax.random.uniform(key, (2, 1))]
        return super().initial_state(key, units, fan_in, random_share)

    def update(self, params: Any, state: Any, forward_in: Any, backward_in: Any) -> Any:
        return {"s": super().update(params, state, forward_in, backward_in)["s"] * SEEN[0]}


def slope(cell: Cell, sets: Any) -> Any:
    """The slope of what a layer 3 -> 2 sends in its second visit."""
    wiring = Dense().wire((3,), (2,), "mean")
    keys = jax.random.split(jax.random.key(0), 6)

    def loss(params: Any, key: Any) -> Any:
        state = cell.initial_state(key, 6, 3, 1.0)
        incoming = jnp.ones((1, 6)), jnp.ones((2, 6))
        for _ in range(2):
            state, forward, backward = visit(cell, params, sets, wiring, state, *incoming, micro_ticks=1)
        return jnp.sum(forward**2) + jnp.sum(backward**2)

    return jax.jit(jax.grad(loss))(jax.vmap(lambda key: cell.init(key, 2, 2))(keys), jax.random.key(1))


@pytest.mark.parametrize("sets", SETS.values(), ids=SETS)
def test_a_good_one_has_a_slope(sets: Any):
    assert all(jnp.isfinite(leaf).all() and jnp.any(leaf != 0) for leaf in jax.tree.leaves(slope(Good(), sets)))


@pytest.mark.parametrize("sets", SETS.values(), ids=SETS)
@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (Counting(), r"cells\.Counting\.initial_state: state\['count'\] is int32\[1, 6\]: make every leaf .* floating"),
        (RowFirst(), r"cells\.RowFirst\.initial_state: state\['s'\] is float32\[6, 2\]: .*\[n, 6\]"),
        (Growing(), r"cells\.Growing\.update takes state\['s'\] as float32\[2, 6\] and gives float32\[4, 6\]"),
        (Rounding(), r"cells\.Rounding\.update takes state\['s'\] as float32\[2, 6\] and gives bfloat16"),
        (Forgetting(), r"cells\.Forgetting\.update takes a state .*'s'.* and gives .*'t'"),
        (Remembering(), r"cells\.Remembering\.update uses a traced array float32\[2, 1\] that is not among its arg"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Cell) else "",
)
def test_a_bad_one_is_refused_in_one_line(cell: Cell, message: str, sets: Any):
    with pytest.raises(UserError, match=message) as refused:
        slope(cell, sets)
    assert "\n" not in str(refused.value)
