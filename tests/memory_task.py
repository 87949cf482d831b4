"""A task with a world: a lamp that the learner's own outputs switch, and that it is paid to keep lit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vsml.tasks import Answer, Feedback, Scores, TaskDistribution, TaskSpec
from vsml.types import Array


class Lamp(NamedTuple):
    """Output 1 above output 0 switches the lamp; the input is whether it is lit; the reward is 1 while it is."""

    lit: Array  # [B], at first
    noise: Array  # [T, B], added to the reward
    weight: Array  # [T, B]

    @property
    def steps(self) -> Any:
        return self.noise

    @property
    def world(self) -> Any:
        return self.lit

    def see(self, world: Any, step: Any) -> Any:
        return world[:, None]

    def answer(self, world: Any, step: Any, output: Any) -> Answer:
        switched = (output[:, 1] > output[:, 0]).astype(float)
        lit = jnp.abs(world - switched)
        reward = lit + 0.1 * step
        return Answer(lit, Feedback(error=reward[:, None] * jnp.array([[1.0, -1.0]]), reward=reward), outcome=reward)

    def score(self, steps: Any, outputs: Any, outcomes: Any) -> Scores:
        smooth = jax.nn.softmax(outputs)[..., 1]
        return Scores(smooth - outcomes, {"reward": outcomes})


@dataclass(frozen=True)
class Lamps(TaskDistribution):
    """Lamps that are lit at random."""

    length: int = 6
    batch: int = 1

    @property
    def spec(self) -> TaskSpec:
        return TaskSpec((1,), 2, self.length, self.batch, feedback=("error", "reward"))

    def load(self) -> Any:
        return ()

    def sample(self, data: Any, key: Any) -> Lamp:
        draw = jax.random.uniform(key, (self.length + 1, self.batch))
        return Lamp(jnp.round(draw[0]), draw[1:], jnp.ones((self.length, self.batch)))
