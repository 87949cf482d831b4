"""Meta RNN: one large recurrent network learns to learn in its activations.

    u_t = [x_t, e_{t-1}, y_{t-1}]                          e_t = dL/dy^_t, y_t: what the task answers (or a reward)
    i, g, f, o = [u_t, h] W + b                            `micro_ticks` times on the same u_t
    c <- sig(f + offset) c + sig(i) tanh(g)                h <- sig(o) tanh(c)
    y^_t = h V + d, bounded as 100 tanh(y^_t / 100)

Source: Hochreiter, Younger & Conwell 2001, "Learning to learn using gradient descent"; the baseline and its sizes from
Kirsch & Schmidhuber 2021, arXiv 2012.14905. Its N learned variables against N^2 meta-parameters are why it overfits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vsml.errors import UserError
from vsml.learners.base import Learner
from vsml.learners.conv_front_end import ConvFrontEnd, features, init_front_end, num_features
from vsml.learners.feedback import as_vector, feedback_size, no_feedback
from vsml.learners.layers import affine, bounded, check_bound, init_affine, lstm
from vsml.tasks.base import Feedback, TaskSpec
from vsml.types import Array, Key, Params, State


class Recurrence(NamedTuple):
    """What a Meta RNN carries through a lifetime, for B parallel examples."""

    h: Array  # [B, hidden_size]
    c: Array  # [B, hidden_size]
    feedback: Array  # [B, feedback_size], of the previous example


@dataclass(frozen=True)
class MetaRNN(Learner):
    """LSTM on the input and the previous example's feedback, with a linear output.

    The B examples of a batch are B parallel streams: each has its own state and receives its own feedback only.

    Attributes:
      hidden_size: number of LSTM units.
      micro_ticks: LSTM updates per example, on the same input.
      forget_offset: added to the forget gate. 1 is the usual LSTM start (Jozefowicz et al. 2015), which keeps
        gradients alive over many steps. The +5 / -5 on the gates of sub-RNNs is not taken over: at -5 a network whose
        only way in is the input gate would hardly read its inputs.
      output_bound: y^ = bound * tanh(y^ / bound) keeps a diverging learner finite; None leaves y^ alone.
      front_end: what turns images into features; None reads them as they are.
    """

    hidden_size: int = 128
    micro_ticks: int = 2
    forget_offset: float = 1.0
    output_bound: float | None = 100.0
    front_end: ConvFrontEnd | None = None

    def __post_init__(self) -> None:
        for name in ("hidden_size", "micro_ticks"):
            if getattr(self, name) < 1:
                raise UserError(f"learners.MetaRNN.{name} is {getattr(self, name)}: set it to 1 or more")
        check_bound("MetaRNN", self.output_bound)

    def init(self, key: Key, spec: TaskSpec) -> Params:
        """Weights truncated normal with std 1 / sqrt(fan_in), biases 0; gates in the order i, g, f, o."""
        gates_key, output_key, front_key = jax.random.split(key, 3)
        num_inputs = num_features(self.front_end, spec) + feedback_size(spec)
        return {
            "gates": init_affine(gates_key, num_inputs + self.hidden_size, 4 * self.hidden_size),
            "output": init_affine(output_key, self.hidden_size, spec.num_outputs),
            **init_front_end(self.front_end, front_key, spec),
        }

    def initial_state(self, params: Params, key: Key, spec: TaskSpec) -> Recurrence:
        """All zeros: the first example has no feedback to receive, and one network has no symmetry to break."""
        memory = jnp.zeros((spec.batch, self.hidden_size), jnp.float32)
        return Recurrence(memory, memory, no_feedback(spec))

    def predict(self, params: Params, state: Recurrence, x: Array) -> tuple[Recurrence, Array]:
        inputs = jnp.concatenate([features(self.front_end, params, x), state.feedback], axis=1)
        h, c = state.h, state.c
        for _ in range(self.micro_ticks):
            h, c = lstm(params["gates"], inputs, h, c, self.forget_offset)
        return state._replace(h=h, c=c), bounded(affine(params["output"], h), self.output_bound)

    def learn(self, params: Params, state: Recurrence, x: Array, feedback: Feedback) -> Recurrence:
        """Keeps the feedback, which enters with the next example."""
        return state._replace(feedback=as_vector(feedback, x.shape[0]))

    def learned_variables(self, state: Recurrence) -> State:
        """h and c; the feedback is in flight."""
        return state.h, state.c
