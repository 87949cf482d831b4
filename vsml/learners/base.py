"""Contract of a learning algorithm: it predicts an example, then sees its label; running it is learning."""

from __future__ import annotations

from abc import ABC, abstractmethod

from vsml.tasks.base import TaskSpec
from vsml.types import Array, Key, Params, State


class Learner(ABC):
    """A learning algorithm with meta-parameters V_M (`params`) and learned variables V_L (`state`).

    All methods are pure and traced. A learner is a frozen dataclass of hyperparameters.
    """

    @abstractmethod
    def init(self, key: Key, spec: TaskSpec) -> Params:
        """Draws the meta-parameters."""

    @abstractmethod
    def initial_state(self, params: Params, key: Key, spec: TaskSpec) -> State:
        """Draws what a lifetime starts from, for `spec.batch` parallel examples."""

    @abstractmethod
    def step(self, params: Params, state: State, x: Array, y: Array) -> tuple[State, Array]:
        """Predicts x, then learns from y.

        Args:
          x: [B, *input_shape].
          y: [B, num_classes], one-hot.

        Returns:
          The new state and the prediction made *before* y was seen: logits [B, num_classes].
        """

    @abstractmethod
    def learned_variables(self, state: State) -> State:
        """The part of the state that is V_L: what is learned, without messages in flight and bookkeeping."""

    def describe(self, spec: TaskSpec) -> dict[str, int]:
        """Further sizes worth showing before a run, by name."""
        return {}
