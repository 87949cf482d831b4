"""An input shown once: what it adds to probabilities, worked out by hand."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pytest
from test_online_accuracy import Counting, Parrot

from vsml.errors import UserError
from vsml.evaluation import ShownAgain
from vsml.evaluation.shown_again import choose


def test_the_first_example_with_company_is_shown():
    place, fits = choose(jnp.asarray([3, 1, 2, 1, 2]))
    assert (place.tolist(), bool(fits)) == ([1, 3, 0], True)
    assert not choose(jnp.asarray([0, 1, 2]))[1]  # no two of a class
    assert not choose(jnp.asarray([1, 1, 1]))[1]  # no other class


def test_one_presentation_to_a_parrot():
    """It predicts the label it saw last with logits 2 and 0, whatever the input."""
    evaluation = ShownAgain("parrot", Counting(length=8), points=(0, 1, 4), lifetimes=2).run(Parrot(), jnp.float32(2.0))
    sure = 1 / (1 + np.exp(-2))
    # Shown is the fifth example, of class 0. It begins with class 0; after one example it saw 0, after four 1.
    np.testing.assert_allclose(evaluation.curves["before"], [[sure, sure, 1 - sure]] * 2, rtol=1e-6)
    np.testing.assert_allclose(evaluation.curves["after"], [[sure] * 3] * 2, rtol=1e-6)
    for asked in ("same_input", "same_class", "other_class"):
        rise = evaluation.curves[f"rise_{asked}"]
        np.testing.assert_allclose(rise, [[0, 0, 2 * sure - 1]] * 2, atol=1e-6)
        np.testing.assert_allclose(evaluation.scores[f"rise_{asked}"], (2 * sure - 1) / 3, rtol=1e-5)
    assert evaluation.measure("before").places == (0, 1, 4)


def test_the_lifetime_goes_on_without_the_presentation():
    """A learner that counts its examples is asked after 3 and 5 of them, each time with one more."""

    @dataclass(frozen=True)
    class Counter(Parrot):
        def initial_state(self, params, key, spec):
            return jnp.zeros((1, 1))

        def predict(self, params, state, x):
            return state, jnp.concatenate([jnp.log(state + 1), jnp.zeros_like(state)], 1)

        def learn(self, params, state, x, feedback):
            return state + 1

    evaluation = ShownAgain("counter", Counting(length=9), points=(3, 5), lifetimes=2).run(Counter(), jnp.float32(0))
    # Label 1 at the sixth example, shown: p = 1 / (n + 2).
    np.testing.assert_allclose(evaluation.curves["before"], [[1 / 5, 1 / 7]] * 2, rtol=1e-6)
    np.testing.assert_allclose(evaluation.curves["after"], [[1 / 6, 1 / 8]] * 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("tasks", "points", "message"),
    [
        (Counting(length=20), (0, 18), r"points ends at 18, but lifetimes of x have 20 examples: .* make them 21"),
        (Counting(length=20, batch=2), (0, 5), "have 2 examples per step: set batch to 1"),
        (Counting(), (5, 2), r"points is \[5, 2\]: name numbers of examples"),
        (Counting(), (), r"points is \[\]"),
    ],
)
def test_what_cannot_be_shown_is_refused(tasks, points, message):
    with pytest.raises(UserError, match=message):
        ShownAgain("x", tasks, points=points).check()
