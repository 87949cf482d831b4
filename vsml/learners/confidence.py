"""Probabilities for methods that only rank the classes: as sure as the method has been right so far.

    p_k = 0.99 softmax(s_k z) + 0.01 / C      z: the method's scores of the classes, high for the best
    p = sum_k w_k p_k                         w_k ~ product of p_k(right class) over the examples so far

This is Bayes' mixture of the sharpnesses: over any lifetime its loss is at most log K nats, in sum, above that of the
sharpness that is best in hindsight. The class with the highest score stays the most probable. One that was never seen
gets 1 / C, its share if all are equally frequent; those seen, C in the equation, divide the rest.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from vsml.types import Array

SHARPNESS = (0.0, *(2.0**power for power in range(-2, 10)))
GUESS = 0.01
"""Share of guessing: one mistake does not rule out a sharpness."""
AHEAD = 1e-4
"""Nats by which the class that the method says is ahead of the others, also where rounding made them equal."""


def no_evidence() -> Array:
    """Logarithms of the weights of all sharpnesses, [K], not normalised: before any example."""
    return jnp.zeros(len(SHARPNESS), jnp.float32)


def as_logits(evidence: Array, scores: Array, seen: Array) -> Array:
    """Log-probabilities [B, C], up to a constant; the first of the classes with the highest score is the largest.

    Args:
      evidence: [K].
      scores: [B, C], finite where the class was seen, of the order of 1.
      seen: [C] bool, the classes that the method can tell.
    """
    each = _log_probabilities(scores, seen)
    mixed = jax.nn.logsumexp(jax.nn.log_softmax(evidence)[None, :, None] + each, axis=1)
    said = jax.nn.one_hot(jnp.argmax(jnp.where(seen, scores, -jnp.inf), axis=1), scores.shape[1], dtype=bool)
    return jnp.where(said, jnp.max(mixed, axis=1, keepdims=True) + AHEAD, mixed)


def weighed(evidence: Array, scores: Array, seen: Array, target: Array) -> Array:
    """The evidence [K] after targets [B, C], rows of zeros where there is none; the rest as in `as_logits`."""
    return evidence + jnp.einsum("bkc,bc->k", _log_probabilities(scores, seen), target)


def _log_probabilities(scores: Array, seen: Array) -> Array:
    """Of every sharpness, [B, K, C]."""
    num_seen, num_classes = jnp.sum(seen), seen.shape[0]
    known = jnp.where(num_seen > 0, seen, True)
    scores = jnp.where(seen, scores, 0.0)
    sharpness = np.asarray(SHARPNESS, np.float32)[None, :, None]
    among_seen = jax.nn.log_softmax(jnp.where(known, sharpness * scores[:, None], -jnp.inf), axis=2)
    share = jnp.where(num_seen > 0, num_seen, num_classes) / num_classes
    said = jnp.logaddexp(among_seen + jnp.log((1 - GUESS) * share), jnp.log(GUESS / num_classes))
    return jnp.where(known, said, -jnp.log(float(num_classes)))
