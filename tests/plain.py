"""The plain twin of VSML with any cell, sharing and sparsity: one sub-RNN after another, slow and obvious on purpose.

A cell is asked for one sub-RNN at a time, with the parameter set of its own and nothing to reduce; cells have twins of
their own. All that happens between sub-RNNs is written out here: who hears whom, what silence is, the sums and their
scales, the mean over the places of a kernel, and when feedback arrives. One example at a time (B = 1).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from vsml.sparsity.base import Reduce
from vsml.tasks.base import TaskSpec

Vector = np.ndarray
Site = tuple[int | None, int]
"""The neurons that a sub-RNN hears in one place: before (None: outside of the image), and behind."""

ALONE = Reduce(lambda sent: sent, total=1.0)


@dataclass
class Layer:
    """The sub-RNNs of a layer."""

    inputs: int
    outputs: int
    sites: list[list[Site]]  # of each sub-RNN, in the storage order of its state
    states: list[Any]  # of each sub-RNN, leaves [n, 1]


@dataclass
class Network:
    """What lives through a lifetime: sub-RNNs, and the message that last reached each neuron of layers 0..K."""

    layers: list[Layer]
    forward: list[list[Vector]]
    backward: list[list[Vector]]


def plain_lifetime(learner: Any, params: Any, state: Any, x: Any, y: Any) -> tuple[np.ndarray, Network]:
    """Predictions [T, classes], and the network after the last example.

    Args:
      learner: where the hyperparameters are read.
      params: its meta-parameters.
      state: its initial state, of which only the sub-RNNs' own are used: no message is in flight at birth.
      x: [T, 1, *input_shape].
      y: [T, 1, classes].
    """
    params, x, y = jax.tree.map(np.asarray, (params, x, y))
    network = new_network(learner, state, x.shape[2:], y.shape[2])
    wirings = learner.wirings(TaskSpec(x.shape[2:], y.shape[2], length=1))
    predictions = [
        live_example(learner, params, wirings, network, inputs.ravel(), label)
        for inputs, label in zip(x[:, 0], y[:, 0], strict=True)
    ]
    return np.stack(predictions), network


def new_network(learner: Any, state: Any, input_shape: tuple[int, ...], num_classes: int) -> Network:
    kinds = learner.sparsity if isinstance(learner.sparsity, tuple) else (learner.sparsity,) * learner.num_layers
    layers, before = [], input_shape
    for kind, size, cells in zip(kinds, (*learner.hidden, num_classes), state["cells"], strict=True):
        behind, sites = connections(kind, before, size)
        states = [
            jax.tree.map(lambda leaf, u=unit: np.asarray(leaf)[0, :, u : u + 1], cells) for unit in range(len(sites))
        ]
        layers.append(Layer(math.prod(before), math.prod(behind), sites, states))
        before = behind
    sizes = [layers[0].inputs, *(layer.outputs for layer in layers)]
    silence = [[np.zeros(learner.message_size, np.float32) for _ in range(n)] for n in sizes]
    return Network(layers, [list(row) for row in silence], [list(row) for row in silence])


def connections(kind: Any, before: tuple[int, ...], size: int) -> tuple[tuple[int, ...], list[list[Site]]]:
    """Shape of the layer behind, and all sites of each sub-RNN."""
    if type(kind).__name__ == "Conv":
        return convolution(kind, before, size)
    inputs = math.prod(before)
    return (size,), [[edge] for edge in edges(kind, inputs, size)]


def edges(kind: Any, inputs: int, outputs: int) -> Iterator[tuple[int, int]]:
    """Who is connected to whom."""
    name = type(kind).__name__
    if name == "Dense":
        yield from ((a, b) for a in range(inputs) for b in range(outputs))
    elif name == "Local":
        reach = kind.width / min(inputs, outputs) + 1e-9
        yield from (
            (a, b)
            for b in range(outputs)
            for a in range(inputs)
            if abs((a + 0.5) / inputs - (b + 0.5) / outputs) <= reach
        )
    elif name == "Block":
        yield from (
            (a, b)
            for b in range(outputs)
            for a in range(inputs)
            if a * kind.blocks // inputs == b * kind.blocks // outputs
        )
    else:  # drawn at random, or a kind of edge list that is new here: whatever it says about itself
        wiring = kind.wire((inputs,), (outputs,), "sum")
        yield from zip(wiring.input_of.tolist(), wiring.output_of.tolist(), strict=True)


def convolution(kind: Any, before: tuple[int, ...], channels: int) -> tuple[tuple[int, ...], list[list[Site]]]:
    """A loop over taps, channels and positions."""
    height, width, in_channels = before if len(before) == 3 else (*before, 1)
    rows, columns = math.ceil(height / kind.stride), math.ceil(width / kind.stride)
    top, left = (
        max((positions - 1) * kind.stride + kind.kernel - size, 0) // 2
        for positions, size in [(rows, height), (columns, width)]
    )
    sites = []
    for i in range(kind.kernel):
        for j in range(kind.kernel):
            for c in range(in_channels):
                for d in range(channels):
                    of_unit: list[Site] = []
                    for row in range(rows):
                        for column in range(columns):
                            y, x = row * kind.stride + i - top, column * kind.stride + j - left
                            inside = 0 <= y < height and 0 <= x < width
                            a = (y * width + x) * in_channels + c if inside else None
                            of_unit.append((a, (row * columns + column) * channels + d))
                    sites.append(of_unit)
    return (rows, columns, channels), sites


def live_example(learner: Any, params: Any, wirings: Any, network: Network, x: Vector, y: Vector) -> Vector:
    """Predicts, then hears the feedback: at once if there is a backward pass, else with the next example."""
    last = len(network.layers)
    for a, value in enumerate(x):
        message = network.backward[0][a].copy() if learner.recirculate else np.zeros(learner.message_size, np.float32)
        message[0] = value
        network.forward[0][a] = message
    for k in range(last):
        visit(learner, params, wirings, network, k, backward_pass=False)
    logits = np.array([message[learner.output_channel] for message in network.forward[last]])
    if learner.output_bound is not None:
        logits = learner.output_bound * np.tanh(logits / learner.output_bound)
    probabilities = np.exp(logits) / np.sum(np.exp(logits))
    send_feedback(learner, network, probabilities - y, y)
    if learner.feedback == "backward_pass":
        for k in reversed(range(last)):
            visit(learner, params, wirings, network, k, backward_pass=True)
        if learner.clear_feedback:
            network.backward[1:last] = [[np.zeros_like(message) for message in row] for row in network.backward[1:last]]
        send_feedback(learner, network, np.zeros_like(y), np.zeros_like(y))
    return logits


def send_feedback(learner: Any, network: Network, error: Vector, label: Vector) -> None:
    for b, arrived in enumerate(network.forward[-1]):
        message = arrived.copy() if learner.recirculate else np.zeros(learner.message_size, np.float32)
        if learner.feed_error:
            message[0] = error[b]
        if learner.feed_label:
            message[1] = label[b]
        network.backward[-1][b] = message


def visit(learner: Any, params: Any, wirings: Any, network: Network, k: int, backward_pass: bool) -> None:
    """All sub-RNNs of layer k tick on the messages that lie there, then all neurons hear what was sent."""
    layer = network.layers[k]
    sets, types = params["cell"], params.get("types", np.zeros((k + 2, 0)))
    set_of = np.broadcast_to(learner.sharing.set_of(k, wirings, backward_pass), len(layer.sites))
    update, send = compiled(learner.cell)
    silence = np.zeros(learner.message_size, np.float32)
    forward: list[list[Vector]] = [[] for _ in range(layer.outputs)]
    backward: list[list[Vector]] = [[] for _ in range(layer.inputs)]
    for unit, sites in enumerate(layer.sites):
        own = jax.tree.map(lambda leaf, n=set_of[unit]: leaf[n], sets)
        heard = [
            (
                column(silence if a is None else network.forward[k][a], types[k]),
                column(network.backward[k + 1][b], types[k + 1]),
            )
            for a, b in sites
        ]
        before = proposed = [layer.states[unit]] * len(sites)
        for _ in range(learner.micro_ticks):
            before = [layer.states[unit]] * len(sites)
            proposed = [update(own, layer.states[unit], *messages) for messages in heard]
            layer.states[unit] = jax.tree.map(lambda *leaves: sum(map(np.asarray, leaves)) / len(leaves), *proposed)
        senders = before if learner.cell.sends_before_update else proposed
        for (a, b), state, messages in zip(sites, senders, heard, strict=True):
            to_behind, to_before = send(own, state, *messages)
            forward[b].append(np.asarray(to_behind)[:, 0])
            if a is not None:
                backward[a].append(np.asarray(to_before)[:, 0])
    network.forward[k + 1] = [reduce(learner, sent) for sent in forward]
    network.backward[k] = [reduce(learner, sent) for sent in backward]


@functools.cache
def compiled(cell: Any) -> tuple[Any, Any]:
    """Update and messages of one sub-RNN."""
    return jax.jit(cell.update), jax.jit(lambda p, s, f, b: cell.messages(p, s, f, b, ALONE, ALONE))


def column(message: Vector, embedding: Vector) -> Vector:
    return np.concatenate([message, embedding]).astype(np.float32)[:, None]


def reduce(learner: Any, messages: list[Vector]) -> Vector:
    """What a neuron receives: zeros, if none sends to it."""
    total = np.zeros(learner.message_size, np.float32)
    for message in messages:
        total = total + message
    count = max(len(messages), 1)
    return total / np.float32({"mean": count, "sum": 1, "sqrt": math.sqrt(count)}[learner.reduction])
