"""ES against its closed form on a quadratic; pairs that share their lifetime."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vsml.errors import UserError
from vsml.meta_optimizers import BPTT, ES, EstimatorState, Population
from vsml.meta_optimizers.es import centred_ranks, noise_key, z_scores

# Numbers are tested, not speed: without LLVM's optimisation programs compile in half the time.
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
    length: int = 1

    def loss(self, params: Any, key: Any, segment: int | None = None) -> tuple[Any, Any]:
        a, b = _quadratic_terms()
        theta = _flat(params)
        luck = self.luck * jax.random.normal(key)
        loss = theta @ a @ theta / 2 + b @ theta + luck
        return loss, {"loss": loss, "tried": jnp.outer(theta, theta), "luck": luck, "luck_squared": luck**2}


@functools.partial(jax.jit, static_argnums=(0, 1))
def _gradient(es: ES | BPTT, lifetimes: Any, params: Any, keys: Any) -> Any:
    gradient, _, metrics = es.gradient(params, EstimatorState(), Population(keys[0], keys, len(keys)), lifetimes)
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


# --------------------------------------------------------------------------------------------------- sigma and shaping


def test_sigma_follows_a_schedule():
    """On theta^3 the estimate depends on sigma: g = mean_p 3 theta^2 eps_p^2 + sigma^2 eps_p^4."""
    with jax.enable_x64(True):
        keys, theta = jax.random.split(jax.random.key(0), 4), jnp.array([0.7])
        schedule = optax.linear_schedule(0.5, 0.1, 4)
        for step, sigma in ((0, 0.5), (1, 0.4), (4, 0.1), (9, 0.1)):
            population = Population(keys[0], keys, 4, step)
            gradient, _, _ = ES(sigma=schedule).gradient(theta, EstimatorState(), population, CUBIC)
            eps = _noise(keys)
            np.testing.assert_allclose(gradient, jnp.mean(3 * 0.7**2 * eps**2 + sigma**2 * eps**4, axis=0), rtol=1e-9)


def _noise(keys: Any) -> Any:
    """What each pair adds and subtracts: [pairs, 1]."""
    return jax.vmap(lambda key: jax.random.normal(jax.random.split(noise_key(key), 1)[0], (1,)))(keys)


@dataclass(frozen=True)
class Cubic:
    """L = theta^3."""

    length: int = 1

    def loss(self, params: Any, key: Any, segment: int | None = None) -> tuple[Any, Any]:
        loss = jnp.sum(params**3)
        return loss, {"loss": loss}


CUBIC: Any = Cubic()  # all of the inner problem that ES asks for


def test_z_scores_by_hand():
    """Mean 3, standard deviation 2; nothing of nothing."""
    np.testing.assert_allclose(z_scores(jnp.array([[1.0, 5.0], [5.0, 1.0]])), [[-1, 1], [1, -1]])
    np.testing.assert_array_equal(z_scores(jnp.full((2, 2), 7.0)), np.zeros((2, 2)))


def test_centred_ranks_by_hand():
    """Of 6: ranks 0..5 become -.5, -.3, -.1, .1, .3, .5; equal losses share theirs, here 2 and 3, or all."""
    ranks = centred_ranks(jnp.array([[1e9, 2.0], [3.0, 3.0], [-7.0, 4.0]]))
    np.testing.assert_allclose(ranks, [[0.5, -0.3], [0.0, 0.0], [-0.5, 0.3]], atol=1e-7)
    np.testing.assert_array_equal(centred_ranks(jnp.full((2, 2), 7.0)), np.zeros((2, 2)))


@pytest.mark.parametrize(("shaping", "shape"), [("z_score", z_scores), ("centred_rank", centred_ranks)])
def test_shaped_losses_take_the_place_of_losses(shaping, shape):
    """g = mean_p eps_p (F+ - F-) / (2 sigma), with the losses of all halves told apart by what was tried."""
    with jax.enable_x64(True):
        keys, theta, sigma = jax.random.split(jax.random.key(0), 5), jnp.array([0.7]), 0.3
        eps = _noise(keys)
        scores = shape(jnp.concatenate([(0.7 + sigma * eps) ** 3, (0.7 - sigma * eps) ** 3], axis=1))
        expected = jnp.mean(eps[:, 0] * (scores[:, 0] - scores[:, 1])) / (2 * sigma)
        population = Population(keys[0], keys, 5)
        shaped, _, _ = ES(sigma=sigma, shaping=shaping).gradient(theta, EstimatorState(), population, CUBIC)
        np.testing.assert_allclose(shaped, [expected], rtol=1e-6)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan")])
def test_mistakes_are_refused(sigma):
    with pytest.raises(UserError, match="set it above 0"):
        ES(sigma=sigma)


def test_unknown_shaping_is_refused():
    with pytest.raises(UserError, match="shaping is 'rank': choose one of none, z_score, centred_rank"):
        ES(shaping="rank")  # pyright: ignore[reportArgumentType]


def test_members_live_the_lifetimes_that_they_live_under_backprop():
    """The key's part of the loss is the same lifetime by lifetime, so comparisons of estimators are paired."""
    keys, params, lifetimes = jax.random.split(jax.random.key(3), 4), _theta(), Quadratic()
    _, of_es = _gradient(ES(sigma=0.01), lifetimes, params, keys)
    _, of_bptt = _gradient(BPTT(segment=1), lifetimes, params, keys)
    assert of_es["luck"] == pytest.approx(of_bptt["luck"])
    assert of_es["luck_squared"] == pytest.approx(of_bptt["luck_squared"])
