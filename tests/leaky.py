"""The smallest learner with memory: what it got wrong leaks away at a rate that is meta-learned. Quick to compile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from vsml.learners.base import Learner


@dataclass(frozen=True)
class Leaky(Learner):
    """logits = s + x w,   s' = a s - error,   s_0 = a n with noise n of the lifetime's key."""

    def init(self, key: Any, spec: Any) -> Any:
        return {"a": jnp.array(0.7), "w": 0.3 * jax.random.normal(key, (spec.num_inputs, spec.num_outputs))}

    def initial_state(self, params: Any, key: Any, spec: Any) -> Any:
        return params["a"] * jax.random.normal(key, (spec.batch, spec.num_outputs))

    def predict(self, params: Any, state: Any, x: Any) -> Any:
        return state, state + x @ params["w"]

    def learn(self, params: Any, state: Any, x: Any, feedback: Any) -> Any:
        return params["a"] * state - feedback.error

    def learned_variables(self, state: Any) -> Any:
        return state
