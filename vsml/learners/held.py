"""The learned variables of a state as some of its leaves, for those who hold or replace them from outside."""

from __future__ import annotations

from collections.abc import Sequence

import jax

from vsml.errors import UserError
from vsml.learners.base import Learner
from vsml.types import Array, State


def learned_leaves(learner: Learner, state: State) -> list[int]:
    """Which leaves of a state are V_L. Raises `UserError` where V_L is computed rather than part of the state."""
    leaves, form = jax.tree.flatten(state)
    try:
        found = jax.tree.leaves(learner.learned_variables(jax.tree.unflatten(form, range(len(leaves)))))
        if not all(isinstance(index, int) for index in found):
            raise TypeError
    except Exception:
        raise UserError(
            f"learned_variables of learners.{type(learner).__name__} is not a part of its state as it is, so it can be "
            "neither held nor replaced: choose another learner, or leave out what holds it (evaluators.Dynamics, "
            "objectives.Remember)"
        ) from None
    return found


def with_leaves(state: State, which: Sequence[int], values: Sequence[Array]) -> State:
    """The state with other leaves: `values`, at the places `which`."""
    leaves, form = jax.tree.flatten(state)
    for index, value in zip(which, values, strict=True):
        leaves[index] = value
    return jax.tree.unflatten(form, leaves)
