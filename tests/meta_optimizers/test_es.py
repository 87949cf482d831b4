"""ES against its closed form on a quadratic; pairs that share their lifetime."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsml.errors import UserError
from vsml.meta_optimizers import ES

# Numbers are tested, not speed: without LLVM's optimisation programs compile in half the time.
QUICK = {"xla_backend_optimization_level": 0}
SIZE = 6  # of theta: a tree of a vector of 2 and a matrix of 2 x 2


def _flat(params: Any) -> Any:
    return jnp.concatenate([params["v"], params["w"].ravel()])


def _quadratic_terms() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    root = rng.standard_normal((SIZE, SIZE))
    return jnp.asarray(root @ root.T), jnp.asarray(rng.standard_normal(SIZE))


def _theta() -> Any:
    values = np.random.default_rng(1).standard_normal(SIZE)
    return {"v": jnp.asarray(values[:2]), "w": jnp.asarray(values[2:].reshape(2, 2))}


@dataclass(frozen=True)
class Quadratic:
    """L(theta) = theta' A theta / 2 + b' theta + what the lifetime's key alone decides, which is large.

    Its metrics tell what an estimator tried: the outer product of theta with itself, and the key's part.
    """

    luck: float = 1e3
    auto_segment: int = 1

    def loss(self, params: Any, key: Any, segment: int | None = None) -> tuple[Any, Any]:
        a, b = _quadratic_terms()
        theta = _flat(params)
        luck = self.luck * jax.random.normal(key)
        loss = theta @ a @ theta / 2 + b @ theta + luck
        return loss, {"loss": loss, "tried": jnp.outer(theta, theta), "luck": luck, "luck_squared": luck**2}


@functools.partial(jax.jit, static_argnums=(0, 1), compiler_options=QUICK)
def _gradient(es: ES, lifetimes: Any, params: Any, keys: Any) -> Any:
    gradient, _, metrics = es.gradient(params, es.init(params, keys, lifetimes), keys, lifetimes)
    return gradient, metrics


@pytest.mark.parametrize(("sigma", "chunk"), [(0.05, None), (0.5, 3)])
def test_equals_its_closed_form_on_a_quadratic(sigma, chunk):
    """Antithetic differences cancel even terms: g = mean_p eps_p eps_p' (A theta + b), exactly, whatever sigma."""
    with jax.enable_x64(True):
        theta = _theta()
        gradient, metrics = _gradient(
            ES(sigma=sigma, chunk=chunk), Quadratic(), theta, jax.random.split(jax.random.key(0), 16)
        )
        # The mean over +- sigma eps of the outer products is theta theta' + sigma^2 mean_p eps_p eps_p'.
        outer = (metrics["tried"] - jnp.outer(_flat(theta), _flat(theta))) / sigma**2
        assert jnp.linalg.eigvalsh(outer)[0] > 0.01  # of full rank: every member and every entry has noise of its own
        a, b = _quadratic_terms()
        np.testing.assert_allclose(_flat(gradient), outer @ (a @ _flat(theta) + b), rtol=1e-7)
        np.testing.assert_allclose(
            metrics["loss"] - metrics["luck"],
            jnp.trace(a @ metrics["tried"]) / 2 + b @ _flat(theta),
            rtol=1e-9,
        )


def test_approaches_the_gradient():
    """eps (eps' v) has the mean v and the variance |v|^2 + v_i^2 in entry i, with v = A theta + b."""
    with jax.enable_x64(True):
        pairs, theta = 20_000, _theta()
        gradient, metrics = _gradient(ES(chunk=pairs), Quadratic(), theta, jax.random.split(jax.random.key(1), pairs))
        a, b = _quadratic_terms()
        v = a @ _flat(theta) + b
        standard_error = jnp.sqrt((v @ v + v**2) / pairs)
        scores = (_flat(gradient) - v) / standard_error
        assert jnp.max(jnp.abs(scores)) < 3.5
        assert jnp.sum(scores**2) > 0.3  # no better than chance either: chi-square of 6, p = 0.0005
        assert jnp.max(standard_error) < 0.02 * jnp.linalg.norm(v)
        # The noise is standard normal: its second moments, which have standard errors of at most sqrt(2 / pairs).
        outer = (metrics["tried"] - jnp.outer(_flat(theta), _flat(theta))) / 0.05**2
        np.testing.assert_allclose(outer, jnp.eye(SIZE), atol=4 * (2 / pairs) ** 0.5)


def test_members_live_different_lifetimes():
    keys = jax.random.split(jax.random.key(0), 16)
    _, metrics = _gradient(ES(), Quadratic(luck=1.0), _theta(), keys)
    assert metrics["luck_squared"] - metrics["luck"] ** 2 > 0.1  # the variance over members


def test_both_halves_of_a_pair_live_the_same_lifetime():
    """What the key alone decides, task and initial state, cancels: drawn twice, it would put g off by luck / sigma."""
    with jax.enable_x64(True):
        keys, theta = jax.random.split(jax.random.key(0), 16), _theta()
        (lucky, _), (plain, _) = (_gradient(ES(), Quadratic(luck), theta, keys) for luck in (1e3, 0.0))
        np.testing.assert_allclose(_flat(lucky), _flat(plain), rtol=1e-7)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan")])
def test_mistakes_are_refused(sigma):
    with pytest.raises(UserError, match="set it above 0"):
        ES(sigma=sigma)
