"""Variable Shared Meta Learning: a network whose every weight is a small recurrent net.

Sub-RNNs s_ab sit between neurons a (before) and b (behind) of layer k = 1..K; all use shared meta-parameters V_M.

    s_ab(k)     <- f( s_ab(k), fwd_a(k), bwd_b(k) )           `micro_ticks` times on the same messages
    fwd_b(k+1)  =  R_a f_fwd( s_ab(k) )
    bwd_a(k-1)  =  R_b f_bwd( s_ab(k) )                       R: mean, sum or sum / sqrt(n)
    fwd_a(1)[0] =  x_a          y^_b = fwd_b(K+1)[output_channel], bounded as 100 tanh(y^ / 100)
    bwd_b(K)[0] =  dL/dy^_b     bwd_b(K)[1] = y_b

Source: Kirsch & Schmidhuber 2021, arXiv 2012.14905, sections 2 and 4. Where the paper and the code behind its results
differ, the choice is an option; its default is the code's, since the results are the code's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from vsml.cells.base import Cell
from vsml.errors import UserError
from vsml.learners.base import Learner
from vsml.learners.layers import bounded
from vsml.learners.visit import visit
from vsml.sharing.base import Sharing
from vsml.sharing.shared import Shared
from vsml.sparsity.base import Reduction, Sparsity, Wiring
from vsml.sparsity.dense import Dense
from vsml.tasks.base import TaskSpec
from vsml.types import Array, Key, Params, State

INPUT_CHANNEL = 0
ERROR_CHANNEL = 0
LABEL_CHANNEL = 1


@dataclass(frozen=True)
class VSML(Learner):
    """A layered network of sub-RNNs that exchange messages forward and backward.

    Attributes:
      cell: what one sub-RNN computes.
      sharing: which sub-RNNs share meta-parameters.
      sparsity: the wiring of every layer, or a tuple of one per layer.
      hidden: sizes of the hidden layers of neurons; () is a single layer of sub-RNNs. Behind a convolution the size is
        the number of channels.
      message_size: M, channels of a message in either direction.
      micro_ticks: state updates per visit of a layer, on the same incoming messages; only the last one's messages
        leave.
      reduction: how a neuron combines what it hears. The paper sums, its code takes means; `sqrt` (sum / sqrt(n)) keeps
        messages of a size that does not shrink with the layer, which backprop through long lifetimes needs.
      feedback: `delayed`: the error of example t enters together with x_{t+1}. `backward_pass`: after its prediction
        the same x_t passes once more, in reverse layer order, together with the fresh error; in forward passes the
        feedback channels are then silent.
      clear_feedback: whether what hidden neurons send backward ends with the backward pass. If not, it stays in flight,
        and the layer before hears it once more in the next forward pass. Backprop needs it to end.
      feed_error: whether bwd_b(K)[0] carries the error dL/dy^_b.
      feed_label: whether bwd_b(K)[1] carries the label y_b. The network input does not contain it either way.
      recirculate: whether the outer neurons send back, in their free channels, the messages that reached them: what
        layer 1 sent backward to input a returns with x_a, what layer K sent forward to output b returns with its
        feedback.
      output_channel: the channel of the last forward message that is read as y^.
      output_bound: y^ = bound * tanh(y^ / bound) keeps a diverging learner finite; None leaves y^ alone.
      random_share: share of a sub-RNN's memory that starts random.
      merge_share: with batches, the leading share of every state vector that is averaged over the batch after each
        step: what was learned from one example reaches the others. The rest, the activations, stays each example's own.
    """

    cell: Cell
    sharing: Sharing = Shared()
    sparsity: Sparsity | tuple[Sparsity, ...] = Dense()
    hidden: tuple[int, ...] = ()
    message_size: int = 8
    micro_ticks: int = 2
    reduction: Reduction = "mean"
    feedback: Literal["delayed", "backward_pass"] = "delayed"
    clear_feedback: bool = False
    feed_error: bool = True
    feed_label: bool = False
    recirculate: bool = False
    output_channel: int = 1
    output_bound: float | None = 100.0
    random_share: float = 0.5
    merge_share: float = 0.5

    def __post_init__(self) -> None:
        if not (self.feed_error or self.feed_label):
            raise UserError("learners.VSML has no feedback to learn from: set feed_error or feed_label to True")
        if self.message_size < 1 + self.feed_label:
            raise UserError(
                f"learners.VSML.message_size is {self.message_size}, but the label needs channel {LABEL_CHANNEL}: "
                "set message_size to 2 or more, or feed_label to False"
            )
        if not 0 <= self.output_channel < self.message_size:
            raise UserError(
                f"learners.VSML.output_channel is {self.output_channel}, but messages have channels "
                f"0..{self.message_size - 1}: choose one of these"
            )
        for name in ("random_share", "merge_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"learners.VSML.{name} is {getattr(self, name)}: set it between 0 and 1")
        if any(size < 1 for size in self.hidden):
            raise UserError(f"learners.VSML.hidden is {list(self.hidden)}: give every hidden layer 1 neuron or more")
        if self.micro_ticks < 1:
            raise UserError(f"learners.VSML.micro_ticks is {self.micro_ticks}: set it to 1 or more")
        if isinstance(self.sparsity, tuple) and len(self.sparsity) != self.num_layers:
            raise UserError(
                f"learners.VSML.sparsity names {len(self.sparsity)} wirings for {self.num_layers} layers: "
                "give one wiring for all, or one per layer (hidden layers + 1)"
            )
        if self.clear_feedback and self.feedback != "backward_pass":
            raise UserError(
                "learners.VSML.clear_feedback has no backward pass to clear: set learners.VSML.feedback = "
                "'backward_pass', or clear_feedback to False"
            )
        if self.sharing.separate_backward and self.feedback != "backward_pass":
            raise UserError(
                "sharing.separate_backward has no backward pass to serve: set learners.VSML.feedback = 'backward_pass'"
            )

    @property
    def num_layers(self) -> int:
        """K, the number of layers of sub-RNNs."""
        return len(self.hidden) + 1

    def wirings(self, spec: TaskSpec) -> list[Wiring]:
        """The wiring of each layer for tasks of this shape."""
        kinds = self.sparsity if isinstance(self.sparsity, tuple) else (self.sparsity,) * self.num_layers
        wirings, before = [], spec.input_shape
        for kind, size in zip(kinds, (*self.hidden, spec.num_classes), strict=True):
            behind = kind.shape_behind(before, size)
            wirings.append(kind.wire(before, behind, self.reduction))
            before = behind
        if math.prod(before) != spec.num_classes:
            raise UserError(
                f"sparsity.{type(kinds[-1]).__name__} as the last layer of learners.VSML.sparsity gives neurons in "
                f"shape {before}, but {spec.num_classes} classes need one each: let the last layer be @sparsity.Dense()"
            )
        return wirings

    def init(self, key: Key, spec: TaskSpec) -> Params:
        """Parameter sets of the cell, stacked along a leading axis [num_sets, ...].

        If sharing knows types of neurons, these are `cell`, and `types` holds the embedding of every layer of neurons,
        [K + 1, type_size], standard normal.
        """
        type_size = self.sharing.type_size
        sets_key, types_key = jax.random.split(key) if type_size else (key, key)
        keys = jax.random.split(sets_key, self.sharing.num_sets(self.wirings(spec)))
        sets = jax.vmap(lambda k: self.cell.init(k, self.message_size + type_size, self.message_size))(keys)
        if not type_size:
            return sets
        return {"cell": sets, "types": jax.random.normal(types_key, (self.num_layers + 1, type_size))}

    def initial_state(self, params: Params, key: Key, spec: TaskSpec) -> State:
        """Random cell states, the same for all B examples of a batch, and silent messages.

        Returns:
          `cells`: per layer a cell state with leaves [B, n, units]. `input` [B, message_size, inputs] and `backward`,
          per layer [B, message_size, neurons behind it]: the messages in flight between two examples. The outermost
          ones hold only the channels that are ever used (all of them if `recirculate`).
        """
        wirings = self.wirings(spec)
        keys = jax.random.split(key, self.num_layers)
        cells = [
            self.cell.initial_state(k, wiring.units, wiring.fan_in, self.random_share)
            for k, wiring in zip(keys, wirings, strict=True)
        ]
        state = {
            "cells": cells,
            "input": jnp.zeros((self._input_channels, spec.num_inputs)),
            "backward": [
                *(jnp.zeros((self.message_size, wiring.outputs)) for wiring in wirings[:-1]),
                jnp.zeros((self._output_channels, spec.num_classes)),
            ],
        }
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (spec.batch, *leaf.shape)), state)

    def step(self, params: Params, state: State, x: Array, y: Array) -> tuple[State, Array]:
        batch = x.shape[0]
        wirings = self.wirings(TaskSpec(x.shape[1:], y.shape[-1], length=1, batch=batch))
        x = x.reshape(batch, -1)

        def example(state: State, x: Array, y: Array) -> tuple[State, Array]:
            return self._example(params, wirings, state, x, y)

        if batch == 1:  # a batch axis of length 1 would only make every matrix product a batched one
            outcome = example(jax.tree.map(lambda leaf: leaf[0], state), x[0], y[0])
            return jax.tree.map(lambda leaf: leaf[None], outcome)
        state, logits = jax.vmap(example)(state, x, y)
        return {**state, "cells": jax.tree.map(self._merge, state["cells"])}, logits

    def learned_variables(self, state: State) -> State:
        return state["cells"]

    def describe(self, spec: TaskSpec) -> dict[str, int]:
        """Number of sub-RNNs."""
        return {"sub-RNNs": sum(wiring.units for wiring in self.wirings(spec))}

    def _example(self, params: Params, wirings: list[Wiring], state: State, x: Array, y: Array) -> tuple[State, Array]:
        """One example, without batch axis. Messages are listed by the layer of neurons they arrive at, 0..K."""
        last = self.num_layers
        cells = list(state["cells"])
        forward = [state["input"].at[INPUT_CHANNEL].set(x), *[jnp.zeros(())] * last]
        backward = [jnp.zeros(()), *state["backward"]]

        self._visit_layers(params, wirings, cells, forward, backward, backward_pass=False)
        logits = bounded(forward[last][self.output_channel], self.output_bound)
        error = jax.nn.softmax(logits) - y  # dL/dy^ of the cross-entropy
        backward[last] = self._feedback(forward[last], error, y)
        if self.feedback == "backward_pass":
            self._visit_layers(params, wirings, cells, forward, backward, backward_pass=True)
            backward[last] = self._feedback(forward[last], jnp.zeros_like(error), jnp.zeros_like(y))
            if self.clear_feedback:
                backward[1:last] = [jnp.zeros_like(message) for message in backward[1:last]]
        return {
            "cells": cells,
            "input": self._echo(backward[0], self._input_channels),
            "backward": backward[1:],
        }, logits

    def _visit_layers(
        self,
        params: Params,
        wirings: list[Wiring],
        cells: list[State],
        forward: list[Array],
        backward: list[Array],
        backward_pass: bool,
    ) -> None:
        """Visits all layers in the order of the pass and replaces, in the given lists, states and sent messages."""
        sets, types = (params["cell"], params["types"]) if self.sharing.type_size else (params, None)
        order = range(self.num_layers)
        for k in reversed(order) if backward_pass else order:
            heard = wirings[k].spread_forward(forward[k]), wirings[k].spread_backward(backward[k + 1])
            if types is not None:
                heard = self._with_type(heard[0], types[k]), self._with_type(heard[1], types[k + 1])
            index = self.sharing.set_of(k, wirings, backward_pass)
            cells[k], forward[k + 1], backward[k] = visit(
                self.cell, sets, index, wirings[k], cells[k], *heard, self.micro_ticks
            )

    def _with_type(self, message: Array, embedding: Array) -> Array:
        """What sites hear, [channels, sites], with the channels that are silent, and the type of who sends it."""
        silent = jnp.zeros((self.message_size - message.shape[0], message.shape[1]))
        types = jnp.broadcast_to(embedding[:, None], (len(embedding), message.shape[1]))
        return jnp.concatenate([message, silent, types])

    @property
    def _input_channels(self) -> int:
        """Channels that the input neurons ever send; cells read channels that are not there as silent."""
        return self.message_size if self.recirculate else 1

    @property
    def _output_channels(self) -> int:
        """Channels that the output neurons ever send backward."""
        if self.recirculate:
            return self.message_size
        return 1 + LABEL_CHANNEL if self.feed_label else 1 + ERROR_CHANNEL

    def _echo(self, arrived: Array, num_channels: int) -> Array:
        """What the outer neurons send back in the channels that carry nothing else."""
        return arrived if self.recirculate else jnp.zeros((num_channels, arrived.shape[1]))

    def _feedback(self, arrived: Array, error: Array, label: Array) -> Array:
        """The message [channels, classes] that the output neurons send backward."""
        message = self._echo(arrived, self._output_channels)
        if self.feed_error:
            message = message.at[ERROR_CHANNEL].set(error)
        if self.feed_label:
            message = message.at[LABEL_CHANNEL].set(label)
        return message

    def _merge(self, leaf: Array) -> Array:
        """Averages the leading share of the features of [B, n, units] over the batch."""
        num_merged = round(leaf.shape[1] * self.merge_share)
        mean = jnp.mean(leaf[:, :num_merged], axis=0, keepdims=True)
        return leaf.at[:, :num_merged].set(mean)
