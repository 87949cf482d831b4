"""The plain twin of VSML: one sub-RNN (a, b) after another, in double precision, slow and obvious on purpose.

    s_ab(k)    <- LSTM( s_ab(k), [fwd_a(k), bwd_b(k)] )       `micro_ticks` times on the same messages
    fwd_b(k+1) =  R_a f_fwd(h_ab(k)),   bwd_a(k-1) = R_b f_bwd(h_ab(k))

Only names and the storage order of the trees are taken over from `vsml`: states [B, n, a * outputs + b], gate weights
[i, g, f, o] x [h, fwd, bwd], parameter sets along the leading axis. Nothing of `vsml` is called.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

Vector = np.ndarray
Sites = dict[tuple[int, int, int], Vector]
"""What each sub-RNN (layer, a, b) holds."""


@dataclass
class Stream:
    """One of the B parallel examples: states of the sub-RNNs, and the message that last reached each neuron."""

    h: Sites
    c: Sites
    forward: list[list[Vector]] = field(default_factory=list)  # [layer of neurons 0..K][neuron], each [message_size]
    backward: list[list[Vector]] = field(default_factory=list)


def sigmoid(z: Vector) -> Vector:
    return 1.0 / (1.0 + np.exp(-z))


def plain_lifetime(learner: Any, params: Any, state: Any, x: Any, y: Any) -> tuple[np.ndarray, list[Stream]]:
    """Predictions [T, B, classes] of VSML with LSTM cells, and the streams after the last example.

    Args:
      learner: where the hyperparameters are read.
      params: its meta-parameters.
      state: its initial state, of which only the sub-RNNs' own are used: no message is in flight at birth.
      x: [T, B, inputs].
      y: [T, B, classes].
    """
    params, x, y = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (params, x, y))
    sizes = (x.shape[2], *learner.hidden, y.shape[2])
    streams = [new_stream(learner, sizes, state, member) for member in range(x.shape[1])]
    predictions = np.zeros(y.shape)
    for t in range(x.shape[0]):
        for member, stream in enumerate(streams):
            predictions[t, member] = live_example(learner, params, sizes, stream, x[t, member], y[t, member])
        merge(learner, streams)
    return predictions, streams


def new_stream(learner: Any, sizes: tuple[int, ...], state: Any, member: int) -> Stream:
    stream = Stream(h={}, c={})
    for k, cell in enumerate(state["cells"]):
        for a in range(sizes[k]):
            for b in range(sizes[k + 1]):
                unit = a * sizes[k + 1] + b
                stream.h[k, a, b] = np.array(cell["h"][member, :, unit], np.float64)
                stream.c[k, a, b] = np.array(cell["c"][member, :, unit], np.float64)
    stream.forward = [[np.zeros(learner.message_size) for _ in range(n)] for n in sizes]
    stream.backward = [[np.zeros(learner.message_size) for _ in range(n)] for n in sizes]
    return stream


def live_example(learner: Any, params: Any, sizes: tuple[int, ...], stream: Stream, x: Vector, y: Vector) -> Vector:
    """Predicts, then hears the feedback: at once if there is a backward pass, else with the next example."""
    last = len(sizes) - 1
    for a in range(sizes[0]):
        message = stream.backward[0][a].copy() if learner.recirculate else np.zeros(learner.message_size)
        message[0] = x[a]
        stream.forward[0][a] = message
    for k in range(last):
        visit(learner, params, sizes, stream, k, backward_pass=False)

    logits = np.array([stream.forward[last][b][learner.output_channel] for b in range(sizes[last])])
    if learner.output_bound is not None:
        logits = learner.output_bound * np.tanh(logits / learner.output_bound)
    probabilities = np.exp(logits) / np.sum(np.exp(logits))

    send_feedback(learner, stream, probabilities - y, y)
    if learner.feedback == "backward_pass":
        for k in range(last - 1, -1, -1):
            visit(learner, params, sizes, stream, k, backward_pass=True)
        send_feedback(learner, stream, np.zeros_like(y), np.zeros_like(y))
    return logits


def send_feedback(learner: Any, stream: Stream, error: Vector, label: Vector) -> None:
    for b, arrived in enumerate(stream.forward[-1]):
        message = arrived.copy() if learner.recirculate else np.zeros(learner.message_size)
        if learner.feed_error:
            message[0] = error[b]
        if learner.feed_label:
            message[1] = label[b]
        stream.backward[-1][b] = message


def visit(learner: Any, params: Any, sizes: tuple[int, ...], stream: Stream, k: int, backward_pass: bool) -> None:
    """All sub-RNNs of layer k tick on the messages that lie there, then all neurons hear what was sent."""
    own = jax.tree.map(lambda leaf: leaf[set_index(learner, len(sizes) - 1, k, backward_pass)], params["cell"])
    sent_forward, sent_backward = {}, {}
    for a in range(sizes[k]):
        for b in range(sizes[k + 1]):
            site = (k, a, b)
            heard = np.concatenate([stream.forward[k][a], stream.backward[k + 1][b]])
            for _ in range(learner.micro_ticks):
                stream.h[site], stream.c[site] = tick(learner.cell, own["gates"], stream.h[site], stream.c[site], heard)
            sent_forward[a, b] = head(learner.cell, own["forward"], stream.h[site])
            sent_backward[a, b] = head(learner.cell, own["backward"], stream.h[site])
    for b in range(sizes[k + 1]):
        stream.forward[k + 1][b] = reduce(learner.reduction, [sent_forward[a, b] for a in range(sizes[k])])
    for a in range(sizes[k]):
        stream.backward[k][a] = reduce(learner.reduction, [sent_backward[a, b] for b in range(sizes[k + 1])])


def set_index(learner: Any, num_layers: int, k: int, backward_pass: bool) -> int:
    """First the sets of the forward pass, one or one per layer; then those of the backward pass, if it has its own."""
    layerwise = type(learner.sharing).__name__ == "Layerwise"
    own_backward = backward_pass and learner.sharing.separate_backward
    return (k if layerwise else 0) + (num_layers if layerwise else 1) * own_backward


def tick(cell: Any, gates: Any, h: Vector, c: Vector, heard: Vector) -> tuple[Vector, Vector]:
    z = gates["w"] @ np.concatenate([h, heard]) + gates["b"]
    i, g, f, o = z[: cell.size], z[cell.size : 2 * cell.size], z[2 * cell.size : 3 * cell.size], z[3 * cell.size :]
    c = sigmoid(f + cell.gate_offset) * c + sigmoid(i - cell.gate_offset) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def head(cell: Any, affine: Any, h: Vector) -> Vector:
    message = affine["w"] @ h + affine["b"]
    if cell.layer_norm:
        message = (message - message.mean()) / np.sqrt(message.var() + 1e-5) * affine["scale"] + affine["offset"]
    return message


def reduce(reduction: str, messages: list[Vector]) -> Vector:
    total = np.zeros_like(messages[0])
    for message in messages:
        total = total + message
    return total / {"mean": len(messages), "sum": 1, "sqrt": np.sqrt(len(messages))}[reduction]


def merge(learner: Any, streams: list[Stream]) -> None:
    """The leading share of h and of c becomes the mean over the batch."""
    for site, own in streams[0].h.items():
        share = round(len(own) * learner.merge_share)
        for values in ([s.h[site] for s in streams], [s.c[site] for s in streams]):
            mean = sum(v[:share] for v in values) / len(streams)
            for v in values:
                v[:share] = mean


def cells_of(streams: list[Stream], sizes: tuple[int, ...]) -> list[dict[str, np.ndarray]]:
    """The states of streams in the storage order of a learner's state["cells"]."""
    return [
        {
            name: np.stack(
                [
                    np.stack([getattr(s, name)[k, a, b] for a in range(sizes[k]) for b in range(sizes[k + 1])], axis=1)
                    for s in streams
                ]
            )
            for name in ("h", "c")
        }
        for k in range(len(sizes) - 1)
    ]
