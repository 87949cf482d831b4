"""Any distribution-based strategy of the library evosax (CMA-ES, SNES, xNES, ...) as an estimator.

    candidates c_i = ask(strategy)      strategy' = tell(c_i, L(c_i))      g = mean - mean'

With plain SGD of learning rate 1 the update V_M - g is the strategy's own. Every device holds the whole strategy and
computes the same ask and tell; the candidates' lifetimes are spread over devices.

Source: Lange 2022, evosax: JAX-based evolution strategies, arXiv 2212.04180; CMA-ES: Hansen 2016, arXiv 1604.00772.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from vsml.errors import UserError
from vsml.meta_optimizers.base import EstimatorState, Lifetimes, MetaOptimizer, Population, mean_over_members
from vsml.types import Array, Key, Metrics, Params


@dataclass(frozen=True)
class Evosax(MetaOptimizer):
    """A strategy of evosax, for `optax.sgd(1.0)`. A population member is a candidate.

    The mean of the strategy is V_M itself, also under another optimizer.

    Attributes:
      strategy: its name in evosax, such as CMA_ES, Sep_CMA_ES, SNES or xNES.
      sigma: initial standard deviation of the candidates around V_M.
      lifetimes: lifetimes that every candidate lives; all candidates live the same ones, so that they can be compared.
    """

    strategy: str = "CMA_ES"
    sigma: float = 0.05
    lifetimes: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sigma > 0:
            raise UserError(f"meta_optimizers.Evosax.sigma is {self.sigma}: set it above 0")
        if self.lifetimes < 1:
            raise UserError(f"meta_optimizers.Evosax.lifetimes is {self.lifetimes}: set it to 1 or more")
        if importlib.util.find_spec("evosax") is None:
            raise UserError("meta_optimizers.Evosax: evosax is not installed: pip install 'vsml[evosax]'")

    def init_shared(self, params: Params, keys: Key) -> tuple[Array, ...]:
        """The leaves of the strategy's state."""
        strategy, settings = self._strategy(params, keys.shape[0])
        leaves = jax.tree.leaves(strategy.init(keys[0], params, settings))
        return tuple(jnp.asarray(leaf, jnp.result_type(leaf)) for leaf in leaves)

    def gradient(
        self, params: Params, state: EstimatorState, population: Population, lifetimes: Lifetimes
    ) -> tuple[Params, EstimatorState, Metrics]:
        ask_key, tell_key, lifetime_key = jax.random.split(population.key, 3)
        strategy, settings = self._strategy(params, population.size)
        structure = jax.tree.structure(jax.eval_shape(lambda: strategy.init(ask_key, params, settings)))
        mean, as_params = ravel_pytree(params)
        search = structure.unflatten(state.shared).replace(mean=mean)
        candidates, search = strategy.ask(ask_key, search, settings)
        same_for_all = jax.random.split(lifetime_key, self.lifetimes)

        def live(candidate: Params) -> Metrics:
            return mean_over_members(jax.vmap(lambda key: lifetimes.loss(candidate, key)[1])(same_for_all))

        metrics = self.for_each(live, jax.tree.map(population.own, candidates))
        losses = population.everyone(metrics["loss"])
        search, _ = strategy.tell(tell_key, candidates, losses, search, settings)
        return as_params(mean - search.mean), EstimatorState(tuple(jax.tree.leaves(search))), mean_over_members(metrics)

    def _strategy(self, params: Params, size: int) -> tuple[Any, Any]:
        """The strategy for a population of that size and its settings."""
        known = importlib.import_module("evosax.algorithms.distribution_based").distribution_based_algorithms
        if self.strategy not in known:
            raise UserError(
                f"meta_optimizers.Evosax.strategy is {self.strategy!r}, which evosax does not have among those with a "
                f"mean: choose one of {', '.join(sorted(known))}"
            )
        make = known[self.strategy]
        scheduled = "std_schedule" in inspect.signature(make).parameters
        options = {"std_schedule": optax.constant_schedule(self.sigma)} if scheduled else {}
        with jax.ensure_compile_time_eval():
            try:
                strategy = make(population_size=size, solution=jax.tree.map(jnp.zeros_like, params), **options)
                settings = strategy.default_params
                if not scheduled:
                    settings = settings.replace(std_init=jnp.full_like(settings.std_init, self.sigma))
            except (TypeError, ValueError, AssertionError, AttributeError) as error:
                raise UserError(f"evosax.{self.strategy} cannot be used here ({error}): choose another one") from error
        return strategy, settings
