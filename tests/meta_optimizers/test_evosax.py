"""The adapter against evosax run by hand. evosax is an extra: without it only the refusals are tested."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from vsml.errors import UserError
from vsml.meta_optimizers import EstimatorState, Evosax, Population

INSTALLED = importlib.util.find_spec("evosax") is not None
installed = pytest.mark.skipif(not INSTALLED, reason="evosax, an extra, is not installed")
MEMBERS, STEPS = 8, 3
START = {"v": jnp.array([0.5, -1.0]), "w": jnp.full((1, 2), 2.0)}


@dataclass(frozen=True)
class Bowl:
    """A quadratic around what the lifetime's key draws."""

    length: int = 1

    def loss(self, params: Any, key: Any, segment: int | None = None) -> Any:
        theta = ravel_pytree(params)[0]
        loss = jnp.sum((theta - jax.random.normal(key, theta.shape)) ** 2)
        return loss, {"loss": loss}


BOWL: Any = Bowl()  # all of the inner problem that the adapter asks for


def _keys(step: int) -> Any:
    return jax.random.fold_in(jax.random.key(3), step)


@pytest.fixture
def _permissive():
    """evosax promotes ranks, and what it imports warns."""
    with jax.numpy_rank_promotion("allow"):
        yield


@installed
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("_permissive")
@pytest.mark.parametrize(("name", "lifetimes"), [("CMA_ES", 2), ("Open_ES", 1)])
def test_equals_evosax_by_hand(name, lifetimes):
    from evosax.algorithms.distribution_based import distribution_based_algorithms  # pyright: ignore

    member_keys = jax.random.split(jax.random.key(1), MEMBERS)
    estimator = Evosax(strategy=name, sigma=0.3, lifetimes=lifetimes)
    params, state = START, EstimatorState(estimator.init_shared(START, member_keys))

    options = {"std_schedule": lambda step: 0.3} if name == "Open_ES" else {}
    strategy = distribution_based_algorithms[name](population_size=MEMBERS, solution=START, **options)
    settings = strategy.default_params
    if not options:
        settings = settings.replace(std_init=jnp.full_like(settings.std_init, 0.3))
    search = strategy.init(member_keys[0], START, settings)

    @jax.jit
    def gradient(params: Any, state: Any, key: Any) -> Any:
        return estimator.gradient(params, state, Population(key, jax.random.split(key, MEMBERS), MEMBERS), BOWL)

    value = jax.jit(lambda candidate, task: BOWL.loss(candidate, task)[0])
    for step in range(STEPS):
        update, state, metrics = gradient(params, state, _keys(step))
        params = jax.tree.map(lambda p, g: p - g, params, update)

        ask_key, tell_key, lifetime_key = jax.random.split(_keys(step), 3)
        candidates, search = strategy.ask(ask_key, search, settings)
        tasks = jax.random.split(lifetime_key, lifetimes)
        each = [jax.tree.map(lambda leaf, i=i: np.asarray(leaf)[i], candidates) for i in range(MEMBERS)]
        losses = jnp.array([np.mean([value(candidate, task) for task in tasks]) for candidate in each])
        search, _ = strategy.tell(tell_key, candidates, losses, search, settings)
        np.testing.assert_allclose(metrics["loss"], losses.mean(), rtol=1e-4)
        for one, other in zip(jax.tree.leaves(params), jax.tree.leaves(strategy.get_mean(search)), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    assert max(float(jnp.abs(a - b).max()) for a, b in zip(params.values(), START.values(), strict=True)) > 1e-3


@installed
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("_permissive")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CMAES", "strategy is 'CMAES', which evosax does not have .* choose one of .*CMA_ES"),
        ("SV_CMA_ES", r"^evosax\.SV_CMA_ES cannot be used here \(.*num_populations"),
        ("GradientlessDescent", r"cannot be used here \(.*std_init"),
    ],
)
def test_strategies_that_do_not_fit_are_refused(name, message):
    with pytest.raises(UserError, match=message):
        Evosax(strategy=name).init_shared(START, jax.random.split(jax.random.key(0), MEMBERS))


def test_a_missing_evosax_is_said(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"^meta_optimizers\.Evosax: evosax is not installed: pip install 'vsml\[evosax\]'$"
    ):
        Evosax()


@pytest.mark.parametrize(
    ("options", "message"), [({"sigma": 0.0}, r"sigma is 0\.0: set it above 0"), ({"lifetimes": 0}, "lifetimes is 0")]
)
def test_mistakes_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        Evosax(**options)
