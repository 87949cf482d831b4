"""Variable Shared Meta Learning: a network whose every weight is a small recurrent net.

Sub-RNNs s_ab connect input neurons a to output neurons b of layer k = 1..K; all use shared meta-parameters V_M.

    s_ab(k)     <- f( s_ab(k), fwd_a(k), bwd_b(k) )           `micro_ticks` times on the same messages
    fwd_b(k+1)  =  R_a f_fwd( s_ab(k) )
    bwd_a(k-1)  =  R_b f_bwd( s_ab(k) )                       R: mean, sum or sum / sqrt(n)
    fwd_a(1)[0] =  x_a          y^_b = fwd_b(K+1)[output_channel], bounded as 100 tanh(y^ / 100)
    bwd_b(K)[0] =  dL/dy^_b     bwd_b(K)[1] = y_b      bwd_b(K)[2] = r     what the task answers, as far as it is fed

Source: Kirsch & Schmidhuber 2021, arXiv 2012.14905, sections 2 and 4. Where the paper and the code behind its results
differ, the choice is an option; its default is the code's, since the results are the code's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp

from vsml.cells.base import Cell
from vsml.errors import UserError
from vsml.learners.base import Learner
from vsml.learners.conv_front_end import ConvFrontEnd, features, init_front_end, num_features
from vsml.learners.feedback import check_feedback
from vsml.learners.layers import bounded, check_bound
from vsml.learners.visit import alone, visit
from vsml.sharing.base import Sharing
from vsml.sharing.shared import Shared
from vsml.sparsity.base import Reduction, Sparsity, Wiring
from vsml.sparsity.dense import Dense
from vsml.tasks.base import Feedback, FeedbackKind, TaskSpec
from vsml.types import Array, Key, Params, State

INPUT_CHANNEL = 0
FEEDBACK_CHANNELS: Mapping[FeedbackKind, int] = {"error": 0, "target": 1, "reward": 2}
"""Where the output neurons send each kind of feedback."""
FRONT_END_STREAM = 1
"""Of the key of meta-parameters: filters are drawn beside the others, which are the same without them."""


@dataclass(frozen=True)
class VSML(Learner):
    """A layered network of sub-RNNs that exchange messages forward and backward.

    Attributes:
      cell: what one sub-RNN computes.
      sharing: which sub-RNNs share meta-parameters.
      sparsity: the wiring of every layer, or a tuple of one per layer.
      hidden: sizes of the hidden layers of neurons; () is a single layer of sub-RNNs. After a convolution the size is
        the number of channels.
      message_size: M, channels of a message in either direction.
      micro_ticks: state updates per visit of a layer, on the same incoming messages; only the last one's messages
        leave.
      reduction: how a neuron combines its messages. The paper sums, its code takes means; `sqrt` (sum / sqrt(n)) keeps
        messages of a size that does not shrink with the layer, which backprop through long lifetimes needs.
      feedback: `delayed`: the error of example t enters together with x_{t+1}. `backward_pass`: after its prediction
        the same x_t passes once more, in reverse layer order, together with the fresh error; in forward passes the
        feedback channels are then silent.
      clear_feedback: whether what hidden neurons send backward ends with the backward pass. If not, it stays in flight,
        and the layer before receives it once more in the next forward pass. Backprop needs it to end.
      feed_error: whether bwd_b(K)[0] carries the error dL/dy^_b.
      feed_label: whether bwd_b(K)[1] carries the label or target y_b. The network input does not contain it either way.
      feed_reward: whether bwd_b(K)[2] carries the reward, the same for all outputs.
      recirculate: whether the outer neurons send back, in their free channels, the messages that reached them: what
        layer 1 sent backward to input a returns with x_a, what layer K sent forward to output b returns with its
        feedback.
      output_channel: the channel of the last forward message that is read as y^.
      output_bound: y^ = bound * tanh(y^ / bound) keeps a diverging learner finite; None leaves y^ alone.
      random_share: share of a sub-RNN's memory that starts random.
      merge_share: with batches, the leading share of every state vector that is averaged over the batch after each
        step: what was learned from one example reaches the others. The rest, the activations, stays each example's own.
      front_end: what turns images into the features that layer 1 reads as its inputs; its filters are meta-parameters,
        which no lifetime changes. None reads images as they are.
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
    feed_reward: bool = False
    recirculate: bool = False
    output_channel: int = 1
    output_bound: float | None = 100.0
    random_share: float = 0.5
    merge_share: float = 0.5
    front_end: ConvFrontEnd | None = None

    def __post_init__(self) -> None:
        if not self._fed:
            raise UserError(
                "learners.VSML has no feedback to learn from: set feed_error, feed_label or feed_reward to True"
            )
        last = self._fed[-1]
        if self.message_size <= FEEDBACK_CHANNELS[last]:
            flag = {"error": "feed_error", "target": "feed_label", "reward": "feed_reward"}[last]
            raise UserError(
                f"learners.VSML.message_size is {self.message_size}, but {flag} needs channel "
                f"{FEEDBACK_CHANNELS[last]}: set message_size to {FEEDBACK_CHANNELS[last] + 1} or more, or {flag} to "
                "False"
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
        check_bound("VSML", self.output_bound)
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
        wirings: list[Wiring] = []
        shape = spec.input_shape if self.front_end is None else self.front_end.output_shape(spec.input_shape)
        for kind, size in zip(kinds, (*self.hidden, spec.num_outputs), strict=True):
            outputs = kind.output_shape(shape, size)
            wirings.append(kind.wire(shape, outputs, self.reduction))
            shape = outputs
        if math.prod(shape) != spec.num_outputs:
            raise UserError(
                f"sparsity.{type(kinds[-1]).__name__} as the last layer of learners.VSML.sparsity gives neurons in "
                f"shape {shape}, but {spec.num_outputs} outputs need one each: let the last layer be @sparsity.Dense()"
            )
        return wirings

    def init(self, key: Key, spec: TaskSpec) -> Params:
        """Draws parameter sets. Raises `UserError` where the tasks do not give the feedback that is to be fed.

        Returns:
          `cell`: sets of the cell, stacked along a leading axis [num_sets, ...]. If sharing knows types of neurons,
          also `types`: the embedding of every layer of neurons, [K + 1, type_size], standard normal. With a front-end,
          `front_end`: its filters.
        """
        check_feedback("learners.VSML", self._fed, spec, "set feed_error, feed_label and feed_reward accordingly")
        type_size = self.sharing.type_size
        sets_key, types_key = jax.random.split(key) if type_size else (key, key)
        keys = jax.random.split(sets_key, self.sharing.num_sets(self.wirings(spec)))
        params = {"cell": jax.vmap(lambda k: self.cell.init(k, self.message_size + type_size, self.message_size))(keys)}
        if type_size:
            params["types"] = jax.random.normal(types_key, (self.num_layers + 1, type_size))
        return params | init_front_end(self.front_end, jax.random.fold_in(key, FRONT_END_STREAM), spec)

    def initial_state(self, params: Params, key: Key, spec: TaskSpec) -> State:
        """Random cell states, the same for all B examples of a batch, and silent messages.

        Returns:
          `cells`: per layer a cell state with leaves [B, n, units]. `input` [B, message_size, inputs] and `backward`,
          per layer [B, message_size, output neurons of the layer]: the messages in flight between two examples.
          The outermost ones hold only the channels that are ever used (all of them if `recirculate`).
        """
        wirings = self.wirings(spec)
        keys = jax.random.split(key, self.num_layers)
        cells = [
            self.cell.initial_state(k, wiring.units, wiring.fan_in, self.random_share)
            for k, wiring in zip(keys, wirings, strict=True)
        ]
        state = {
            "cells": cells,
            "input": jnp.zeros((self._input_channels, num_features(self.front_end, spec))),
            "backward": [
                *(jnp.zeros((self.message_size, wiring.outputs)) for wiring in wirings[:-1]),
                jnp.zeros((self._output_channels, spec.num_outputs)),
            ],
        }
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (spec.batch, *leaf.shape)), state)

    def predict(self, params: Params, state: State, x: Array) -> tuple[State, Array]:
        """The forward pass.

        Returns:
          `cells`; `forward` and `backward`, K + 1 messages each by the layer of neurons that they have reached, from
          the input neurons to the output neurons; and the outputs.
        """
        wirings = self._wirings(x, state["backward"][-1])

        def example(state: State, x: Array) -> tuple[State, Array]:
            first = state["input"].at[INPUT_CHANNEL].set(x)
            cells, forward, backward = self._visit_layers(
                params, wirings, state["cells"], [first, *[None] * self.num_layers], [None, *state["backward"]], False
            )
            output = bounded(forward[-1][self.output_channel], self.output_bound)
            return {"cells": cells, "forward": forward, "backward": backward}, output

        return _for_each_example(example, state, features(self.front_end, params, x))

    def learn(self, params: Params, state: State, x: Array, feedback: Feedback) -> State:
        """Sends the feedback backward: at once in a backward pass, or together with the next example."""
        wirings = self._wirings(x, state["backward"][-1])
        state = self._reading(state, x)

        def example(state: State, feedback: Feedback) -> State:
            cells, forward, backward = self._answered(params, wirings, state, feedback)
            if self.feedback == "backward_pass":
                hidden = backward[1:-1]
                if self.clear_feedback:
                    hidden = [jnp.zeros_like(message) for message in hidden]
                backward = [backward[0], *hidden, self._answer(forward[-1], None)]
            return {"cells": cells, "input": self._echo(backward[0], self._input_channels), "backward": backward[1:]}

        learned = _for_each_example(example, state, feedback)
        if x.shape[0] == 1:
            return learned
        return {**learned, "cells": jax.tree.map(self._merge, learned["cells"])}

    def learned_variables(self, state: State) -> State:
        return state["cells"]

    def messages(self, params: Params, state: State, x: Array, feedback: Feedback) -> dict[str, Array]:
        """`forward_k`, what layer k = 1..K sends to its output neurons in the forward pass, and `backward_k`, what it
        sends to its input neurons: with the feedback at hand in the backward pass, without one in the forward pass.
        """
        wirings = self._wirings(x, state["backward"][-1])
        state = self._reading(state, x)

        def example(state: State, feedback: Feedback) -> list[Array]:
            return self._answered(params, wirings, state, feedback)[2]

        backward = _for_each_example(example, state, feedback)
        sent = {"forward": state["forward"][1:], "backward": backward[:-1]}
        return {f"{way}_{k}": message for way, by_layer in sent.items() for k, message in enumerate(by_layer, 1)}

    def describe(self, spec: TaskSpec) -> dict[str, int]:
        """Number of sub-RNNs."""
        return {"sub-RNNs": sum(wiring.units for wiring in self.wirings(spec))}

    def visit_alone(
        self, params: Params, cells: State, forward: Array, backward: Array, layer: int = 0, backward_pass: bool = False
    ) -> tuple[State, Array, Array]:
        """One visit of sub-RNNs that are connected to nothing, with the micro ticks and parameters of real use.

        What one sub-RNN makes of its state and of the messages that arrive, without a network or a lifetime around it:
        what an objective regresses on.

        Args:
          params: meta-parameters. Sharing has to give the layer a single set of them.
          cells: states with leaves [n, units], of any number of units: what `learned_variables` lists for a layer, of
            one example of the batch.
          forward, backward: arriving messages, [channels, units]; channels beyond these are silent.
          layer: whose parameters and types of neurons are used, from 0.
          backward_pass: whether the visit is one of the backward pass.

        Returns:
          The new states, and the messages that each sub-RNN sends forward and backward, [message_size, units].

        Raises:
          UserError: if sub-RNNs of the layer use several sets.
        """
        units = forward.shape[1]
        wiring = alone(units)
        index = self.sharing.set_of(layer, [wiring] * self.num_layers, backward_pass)
        if not isinstance(index, int):
            raise UserError(
                f"sharing.{type(self.sharing).__name__} gives the sub-RNNs of a layer several sets of "
                "meta-parameters: a sub-RNN by itself needs one, as with sharing.Shared or sharing.Layerwise"
            )
        arriving = self._with_types(params, layer, forward, backward)
        return visit(self.cell, params["cell"], index, wiring, cells, *arriving, self.micro_ticks)

    def arriving(self, params: Params, predicted: State, x: Array, feedback: Feedback) -> list[tuple[Array, Array]]:
        """What arrives at the sub-RNNs of every layer in the backward pass that `learn` makes of the same arguments.

        Returns:
          By layer the messages forward and backward, [B, channels, units].
        """
        wirings = self._wirings(x, predicted["backward"][-1])

        def example(state: State, feedback: Feedback) -> list[tuple[Array, Array]]:
            _, _, sent = self._answered(params, wirings, state, feedback)
            return [
                (wiring.spread_forward(forward), wiring.spread_backward(back))
                for wiring, forward, back in zip(wirings, state["forward"][:-1], sent[1:], strict=True)
            ]

        return _for_each_example(example, predicted, feedback)

    @property
    def _fed(self) -> tuple[FeedbackKind, ...]:
        """The kinds of feedback that the output neurons send backward."""
        flags = {"error": self.feed_error, "target": self.feed_label, "reward": self.feed_reward}
        return tuple(kind for kind in FEEDBACK_CHANNELS if flags[kind])

    def _wirings(self, x: Array, last_backward: Array) -> list[Wiring]:
        """The wiring of each layer, given inputs [B, *input_shape] and a message of the output neurons."""
        return self.wirings(TaskSpec(x.shape[1:], last_backward.shape[-1], length=1))

    def _answered(
        self, params: Params, wirings: list[Wiring], state: State, feedback: Feedback
    ) -> tuple[list[State], list[Any], list[Any]]:
        """`_visit_layers` of the backward pass of one example, or without one what the forward pass has left, with the
        feedback at the output neurons."""
        cells, forward = state["cells"], state["forward"]
        backward = [*state["backward"][:-1], self._answer(forward[-1], feedback)]
        if self.feedback == "backward_pass":
            return self._visit_layers(params, wirings, cells, forward, backward, True)
        return cells, forward, backward

    def _reading(self, state: State, x: Array) -> State:
        """The state with what the input neurons send in the backward pass: x, which a front-end before this learner may
        have changed since the prediction.
        """
        if self.feedback == "delayed" or self.front_end is not None:
            return state
        first, *others = state["forward"]
        return {**state, "forward": [first.at[:, INPUT_CHANNEL].set(x.reshape(first[:, INPUT_CHANNEL].shape)), *others]}

    def _visit_layers(
        self,
        params: Params,
        wirings: list[Wiring],
        cells: list[State],
        forward: list[Any],
        backward: list[Any],
        backward_pass: bool,
    ) -> tuple[list[State], list[Any], list[Any]]:
        """Visits all layers of one example in the order of the pass.

        Args:
          cells: by layer, leaves [n, units].
          forward, backward: messages [channels, neurons] by the layer of neurons that they have reached, 0..K; None for
            one that the pass itself sends.

        Returns:
          The three lists after the pass.
        """
        cells, forward, backward = list(cells), list(forward), list(backward)
        order = range(self.num_layers)
        for k in reversed(order) if backward_pass else order:
            arriving = wirings[k].spread_forward(forward[k]), wirings[k].spread_backward(backward[k + 1])
            index = self.sharing.set_of(k, wirings, backward_pass)
            cells[k], forward[k + 1], backward[k] = visit(
                self.cell,
                params["cell"],
                index,
                wirings[k],
                cells[k],
                *self._with_types(params, k, *arriving),
                self.micro_ticks,
            )
        return cells, forward, backward

    def _with_types(self, params: Params, layer: int, forward: Array, backward: Array) -> tuple[Array, Array]:
        """Messages at the sites of a layer, [channels, sites], with the types of who sends them, if these are known."""
        if not self.sharing.type_size:
            return forward, backward
        types = params["types"]
        return self._with_type(forward, types[layer]), self._with_type(backward, types[layer + 1])

    def _with_type(self, message: Array, embedding: Array) -> Array:
        """A message with the channels that are silent, and the type of who sends it."""
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
        return self.message_size if self.recirculate else 1 + max(FEEDBACK_CHANNELS[kind] for kind in self._fed)

    def _echo(self, arrived: Array, num_channels: int) -> Array:
        """What the outer neurons send back in the channels that carry nothing else."""
        return arrived if self.recirculate else jnp.zeros((num_channels, arrived.shape[1]))

    def _answer(self, arrived: Array, feedback: Feedback | None) -> Array:
        """The message [channels, outputs] that the output neurons send backward; None: zero in place of feedback."""
        message = self._echo(arrived, self._output_channels)
        for kind in self._fed:
            message = message.at[FEEDBACK_CHANNELS[kind]].set(0.0 if feedback is None else getattr(feedback, kind))
        return message

    def _merge(self, leaf: Array) -> Array:
        """Averages the leading share of the features of [B, n, units] over the batch."""
        num_merged = round(leaf.shape[1] * self.merge_share)
        mean = jnp.mean(leaf[:, :num_merged], axis=0, keepdims=True)
        return leaf.at[:, :num_merged].set(mean)


def _for_each_example(function: Callable[..., Any], *trees: Any) -> Any:
    """`function` of each example of trees with leaves [B, ...], stacked likewise.

    Without `vmap` for one example: a batch axis of length 1 would only make every matrix product a batched one.
    """
    if jax.tree.leaves(trees)[0].shape[0] > 1:
        return jax.vmap(function)(*trees)
    return jax.tree.map(lambda leaf: leaf[None], function(*jax.tree.map(lambda leaf: leaf[0], trees)))
