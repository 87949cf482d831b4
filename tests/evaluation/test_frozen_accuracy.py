"""Accuracy with learning switched off, by hand: a parrot that keeps the last label it learned."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from test_online_accuracy import Counting, Parrot

from vsml.errors import UserError
from vsml.evaluation import FrozenAccuracy


def test_a_parrot_keeps_the_label_it_learned_last():
    """Labels 0, 1, 0, 1, ...: learning on, the last label is always the wrong one, but for the first step."""
    evaluation = FrozenAccuracy("parrot", Counting(length=20), learned=5, lifetimes=3).run(Parrot(), jnp.float32(2.0))
    # After five steps it has seen 0 last. Frozen, it is right at the even ones of steps 5..19 (from 0): 7 of 15.
    np.testing.assert_allclose(evaluation.scores["frozen_accuracy"], [7 / 15] * 3, rtol=1e-6)
    np.testing.assert_array_equal(evaluation.scores["learning_accuracy"], [0.0] * 3)
    np.testing.assert_allclose(evaluation.scores["early_accuracy"], [1 / 5] * 3, rtol=1e-6)
    np.testing.assert_allclose(evaluation.scores["gain_of_learning"], [-7 / 15] * 3, rtol=1e-6)
    np.testing.assert_array_equal(evaluation.curves["frozen"][:, :5], evaluation.curves["learning"][:, :5])
    np.testing.assert_array_equal(evaluation.curves["frozen"][0, 5:9], [0, 1, 0, 1])
    assert evaluation.facts == {"examples": 20, "learned": 5, "chance": 0.5}


def test_something_has_to_be_left_to_predict():
    with pytest.raises(UserError, match=r"learned is 20, but lifetimes of parrot have 20 steps: lower it"):
        FrozenAccuracy("parrot", Counting(length=20), learned=20).check()


@pytest.mark.parametrize(("field", "value"), [("lifetimes", 1), ("learned", 0), ("chunk", 0)])
def test_sizes_out_of_range_are_refused(field, value):
    with pytest.raises(UserError, match=rf"FrozenAccuracy\.{field} is {value}: set it to"):
        FrozenAccuracy("parrot", Counting(), **{field: value})
