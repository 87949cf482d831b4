"""Probabilities of methods that rank classes: by hand, no worse than the best sharpness, and never another order."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsml.learners.confidence import AHEAD, GUESS, SHARPNESS, as_logits, no_evidence, weighed


def _sure_of(sharpness: float) -> jax.Array:
    """Evidence that leaves no doubt about a sharpness."""
    return jnp.where(jnp.asarray(SHARPNESS) == sharpness, 0.0, -1e4)


def test_two_of_four_classes_by_hand():
    # Seen are classes 1 and 3, which share 1/2 as 4 : 1, since their scores differ by log 4, but for a hundredth of it,
    # .0025 each; each other class has 1/4.
    scores = jnp.array([[0.0, 0.0, 7.0, -np.log(4)]])
    logits = as_logits(_sure_of(1.0), scores, jnp.array([False, True, False, True]))
    np.testing.assert_allclose(jax.nn.softmax(logits[0]), [0.25, 0.3985, 0.25, 0.1015], rtol=2e-4)


def test_evidence_is_the_log_probability_of_what_was_right():
    scores, seen = jnp.array([[0.0, -np.log(4)], [-np.log(4), 0.0]]), jnp.array([True, True])
    evidence = weighed(no_evidence(), scores, seen, jnp.array([[1.0, 0.0], [1.0, 0.0]]))
    # Sharpness 0 gives 1/2 to each, sharpness 1 gives 4/5 and 1/5, sharpness 2 gives 16/17 and 1/17, times .99 + .005.
    guess = 0.005
    for sharpness, p, q in ((0, 0.495, 0.495), (1, 0.792, 0.198), (2, 0.99 * 16 / 17, 0.99 / 17)):
        np.testing.assert_allclose(evidence[SHARPNESS.index(sharpness)], np.log((p + guess) * (q + guess)), rtol=1e-5)
    nothing = weighed(evidence, scores, seen, jnp.zeros((2, 2)))
    np.testing.assert_array_equal(nothing, evidence)


def test_the_loss_is_near_that_of_the_best_sharpness():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(300, 1, 5)).astype(np.float32)
    noisy = 8 * scores + rng.gumbel(size=scores.shape)  # classes drawn with a sharpness of 8
    target = jax.nn.one_hot(noisy.argmax(-1), 5)
    seen = jnp.ones(5, bool)

    def live(evidence: jax.Array, example: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        logits = as_logits(evidence, example[0], seen)
        return weighed(evidence, *example[:1], seen, example[1]), jax.nn.log_softmax(logits)

    _, said = jax.lax.scan(live, no_evidence(), (jnp.asarray(scores), target))
    loss = -jnp.sum(said * target)
    best = [-jnp.sum(jax.nn.log_softmax(s * scores) * target) for s in SHARPNESS]
    assert SHARPNESS[int(np.argmin(best))] in (4, 8, 16)
    assert loss <= min(best) + np.log(len(SHARPNESS)) + 300 * (AHEAD - np.log(1 - GUESS))


@pytest.mark.parametrize("scale", [1e-7, 1.0, 1e4])
def test_the_best_class_stays(scale: float):
    scores = scale * jnp.asarray(np.random.default_rng(1).normal(size=(50, 6)), jnp.float32)
    seen = jnp.array([True, True, False, True, True, False])
    logits = as_logits(no_evidence(), scores, seen)
    assert jnp.isfinite(logits).all()
    np.testing.assert_array_equal(logits.argmax(1), jnp.where(seen, scores, -jnp.inf).argmax(1))


def test_equal_scores_and_nothing_seen_are_the_first_class():
    nothing = as_logits(no_evidence(), jnp.zeros((1, 3)), jnp.zeros(3, bool))
    np.testing.assert_allclose(jax.nn.softmax(nothing[0]), [1 / 3] * 3, rtol=1e-3)
    assert nothing[0].argmax() == 0
    equal = as_logits(no_evidence(), jnp.full((1, 3), -2.0), jnp.array([False, True, True]))
    assert equal[0].argmax() == 1
