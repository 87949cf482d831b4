"""Agreement beyond accuracy: small tables worked out by hand, and learners whose predictions are known."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import ArrayLike
from test_online_accuracy import Counting, Parrot

from vsml.errors import UserError
from vsml.evaluation import Agreement
from vsml.evaluation.agreement import Predicted, compare
from vsml.learners import Learner


def predicted(classes: ArrayLike, labels: ArrayLike) -> Predicted:
    one_by_one = np.asarray(classes)[..., None], np.asarray(labels)[..., None]
    return Predicted(*one_by_one, np.ones_like(one_by_one[0]))


def test_kappa_of_a_small_table():
    """Two lifetimes of two steps, three classes."""
    labels = [[0, 0], [0, 0]]
    first = predicted([[0, 1], [1, 0]], labels)
    second = predicted([[0, 1], [2, 1]], labels)
    compared = compare(first, second, num_classes=3)
    # Accuracies by step: first 1/2, 1/2; second 1/2, 0. By chance: 1/4 + 1/4 / 2 = 3/8, and 0 + 1/2 / 2 = 1/4.
    np.testing.assert_allclose(compared.expected, [[3 / 8, 1 / 4]] * 2)
    np.testing.assert_array_equal(compared.agree, [[1, 1], [0, 0]])
    # (1 - 3/8 + 1 - 1/4) / (5/8 + 3/4) = 1 and (-3/8 - 1/4) / (5/8 + 3/4) = -5/11
    np.testing.assert_allclose(compared.kappa, [1, -5 / 11])
    np.testing.assert_allclose(compared.kappa_curve, [[1, 1], [-3 / 5, -1 / 3]])
    # Both wrong: step 2 of lifetime 1, the same class; step 1 of lifetime 2, classes 1 and 2.
    np.testing.assert_array_equal(compared.same_error, [[np.nan, 1], [0, np.nan]])
    np.testing.assert_array_equal(compared.same_errors, [1, 0])


def test_independent_errors_agree_by_chance_alone():
    """Two learners of accuracies .8 and .6 that err independently: kappa 0, and a quarter of their errors are alike."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 5, (40, 500))

    def right_in(share: float) -> Predicted:
        wrong = (labels + draw.integers(1, 5, labels.shape)) % 5
        return predicted(np.where(draw.random(labels.shape) < share, labels, wrong), labels)

    compared = compare(right_in(0.8), right_in(0.6), num_classes=5)
    assert abs(compared.kappa.mean()) < 0.02
    assert compared.same_errors.mean() == pytest.approx(1 / 4, abs=0.03)
    # The accuracies explain .8 * .6 + .2 * .4 / 4 = .5 of agreement.
    assert compared.agree.mean() == pytest.approx(0.5, abs=0.01)


def test_what_does_not_count_is_left_out_and_lifetimes_without_errors_take_the_mean():
    labels = [[0, 0, 0]] * 2
    first = predicted([[1, 1, 1], [0, 0, 0]], labels)
    second = predicted([[1, 2, 1], [0, 0, 0]], labels)
    silent = np.asarray([[1, 1, 0], [1, 1, 0]])[..., None]
    compared = compare(first._replace(weight=silent), second._replace(weight=silent), num_classes=3)
    assert np.isnan(compared.agree[:, 2]).all()
    np.testing.assert_array_equal(compared.same_errors, [1 / 2, 1 / 2])


@dataclass(frozen=True)
class Contrary(Parrot):
    """Predicts the other class than `Parrot`: right at all steps but the first."""

    def predict(self, params, state, x):
        return state, -state


def test_a_parrot_agrees_with_itself_and_never_with_its_contrary():
    evaluator = Agreement("parrot", Counting(length=40), learners=(Contrary(),), lifetimes=3)
    evaluation = evaluator.run(Parrot(), jnp.float32(2.0))
    assert evaluation.headline == "beyond_accuracy"
    np.testing.assert_array_equal(evaluation.scores["agreement"], [1, 1, 1])
    np.testing.assert_array_equal(evaluation.scores["same_errors"], [1, 1, 1])
    contrary = evaluation.rivals["contrary"]
    np.testing.assert_array_equal(contrary.scores["agreement"], [0, 0, 0])
    np.testing.assert_allclose(contrary.scores["cumulative_accuracy"], [39 / 40] * 3, rtol=1e-6)
    assert evaluator.interim() == evaluator


def test_outputs_that_are_not_finite_agree_with_no_class():
    @dataclass(frozen=True)
    class Broken(Parrot):
        def predict(self, params, state, x):
            return state, jnp.full_like(state, jnp.nan)

    evaluation = Agreement("broken", Counting(), learners=(Parrot(),), lifetimes=2).run(Broken(), jnp.float32(0))
    np.testing.assert_array_equal(evaluation.rivals["parrot"].scores["agreement"], [0, 0])


def test_two_rivals_of_one_kind_are_refused():
    twice: tuple[Learner, ...] = (Parrot(), Parrot())
    with pytest.raises(UserError, match=r"Agreement\.learners names Parrot, Parrot: name learners of different kinds"):
        Agreement("parrot", Counting(), learners=twice)
