"""A network of vanilla sub-RNNs as one Meta RNN: its weight matrix, with shared and zero entries.

The states of all layers are one row vector s, listed sub-RNN by sub-RNN. u are the messages that arrive from outside,
at the inputs of the first layer (forward) and at the outputs of the last (backward). v are those that leave there:

    s' = act(s W~ + u V + c)          v = s' M + d

Parameter set i has W_i = [own, forward, backward] and b_i, and the heads H_i, h_i forward and K_i, k_i backward (see
`cells/vanilla.py`). The block from sub-RNN r of set i to sub-RNN c of set j, or from or to neuron n, is

    W~_rc = [r = c] W_j.own^T + P_rc (W_j.forward H_i)^T + Q_rc (W_j.backward K_i)^T
    V_nc  = W_j.forward^T  where n is the input of c           W_j.backward^T  where n is the output of c
    M_rn  = R_rn H_i^T     where n is the output of r          R_rn K_i^T      where n is the input of r
    P_rc  = R_rn           where n is output of r, input of c  from layer k to k + 1; Q likewise from layer k + 1 to k
    R_rn  = 1 for a sum, 1 / a for a mean, 1 / sqrt(a) for sqrt, over the a messages that reach neuron n
    c, d  = the biases b and those of the heads; types of neurons are constant inputs, so that they are in c too

For a single layer, W~ holds only the connections of each sub-RNN to its own state, in blocks along the diagonal: the
outputs of the layer are not its inputs, and all messages that it receives come through V. A learner that sends back
what reaches its ends (`recirculate`) makes v a part of the next u. In a ring (see
`connections.py`) nothing is outside; a ring of a single layer is the paper's equation

    W~ = I (x) W + P (x) C + Q (x) U          C = (W.forward H)^T,  U = (W.backward K)^T

One step is one round: all layers update at once, with the messages of the states before the step. A pass of VSML visits
one layer after the other: each visit is the same step, restricted to the columns of that layer.

Source: Kirsch & Schmidhuber 2021, arXiv 2012.14905, section 2: VSML is a Meta RNN with weight sharing and sparsity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from vsml.analysis.connections import OUTSIDE, Connections, Group, connections, sending, wirings_and_sets
from vsml.cells.activations import ACTIVATIONS, Activation
from vsml.cells.base import Cell
from vsml.cells.vanilla import Vanilla
from vsml.errors import UserError
from vsml.learners.base import Learner
from vsml.learners.visit import visit
from vsml.sparsity.base import Wiring
from vsml.tasks.base import TaskSpec
from vsml.types import Array, Params

Sets = Sequence[int | np.ndarray]
"""The parameter set of each layer, or of each of its sub-RNNs, int [units]."""


@dataclass(frozen=True, eq=False)
class MatrixView:
    """A network as a Meta RNN. Entry j of the state of sub-RNN r is number r * size + j, layer after layer.

    Attributes:
      connections: the pairs of nodes that have a block.
      matrix: [[V, 0], [W~, M]]: rows are u and s, columns s' and v; neurons are listed one by one with all their
        channels.
      names: int, the number of the shared entry of each element, counted from 1; 0 outside of all blocks.
      bias: c, [units * size].
      leaving: d.
      activation: act, by name.
      size: N, the length of a sub-RNN's state.
      channels: M, the channels of a message.
    """

    connections: Connections
    matrix: sparse.csr_array
    names: sparse.csr_array
    bias: np.ndarray
    leaving: np.ndarray
    activation: Activation
    size: int
    channels: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the whole matrix."""
        side = len(self.bias) + len(self.leaving)
        return side, side

    @property
    def weights(self) -> sparse.csr_array:
        """W~: element (r, c) is the weight of state r in the next state c."""
        return self.matrix[len(self.leaving) :, : len(self.bias)]

    @property
    def inputs(self) -> sparse.csr_array:
        """V: element (r, c) is the weight of entry r of u in the next state c."""
        return self.matrix[: len(self.leaving), : len(self.bias)]

    @property
    def outputs(self) -> sparse.csr_array:
        """M: element (r, c) is the weight of state r in entry c of v."""
        return self.matrix[len(self.leaving) :, len(self.bias) :]

    def step(self, s: np.ndarray, u: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The next states s' [units * size] and what leaves, v. Without u nothing arrives."""
        arrived = 0.0 if u is None else u @ self.inputs
        after = np.asarray(ACTIVATIONS[self.activation](jnp.asarray(s @ self.weights + arrived + self.bias)))
        return after, after @ self.outputs + self.leaving


class Network(NamedTuple):
    """Layers of sub-RNNs with their meta-parameters."""

    cell: Cell
    params: Params  # parameter sets, stacked along a leading axis
    wirings: Sequence[Wiring]
    sets: Sets
    types: np.ndarray | None = None  # [K + 1, type_size], the embeddings that `sharing.Typed` learns
    ring: bool = False


def network_of(learner: Learner, params: Params, spec: TaskSpec, backward_pass: bool = False) -> Network:
    """The network of a VSML learner in its forward or backward pass. Raises `UserError` for other learners."""
    wirings, sets = wirings_and_sets(learner, spec, backward_pass)
    types = np.asarray(params["types"], np.float64) if "types" in params else None
    return Network(learner.cell, params["cell"], wirings, sets, types)  # pyright: ignore[reportAttributeAccessIssue]


def refusal(cell: Cell) -> str:
    """Why a network of this cell cannot be written as one matrix; empty if it can."""
    if not isinstance(cell, Vanilla):
        return f"cells.{type(cell).__name__} has no matrix view: its step is not one weighted sum, use cells.Vanilla"
    if cell.layer_norm:
        return "messages with LayerNorm have no matrix view: set cells.Vanilla.layer_norm to False"
    return ""


def matrix_view(network: Network) -> MatrixView:
    """A network of vanilla sub-RNNs as one Meta RNN.

    Raises:
      UserError: for a cell with LayerNorm or of another kind, and for what `connections` refuses.
    """
    if why := refusal(network.cell):
        raise UserError(why)
    found = connections(network.wirings, network.sets, network.ring)
    weights = _split(network)
    blocks = [_block(weights, kind) for kind in found.kinds]
    matrix, names = _assemble(found, blocks, weights)
    bias, leaving = _biases(network, weights)
    cell = network.cell
    return MatrixView(found, matrix, names, bias, leaving, cell.activation, *weights.shape)  # pyright: ignore[reportAttributeAccessIssue]


def step_difference(network: Network, s: Sequence[Array], forward: Array, backward: Array) -> float:
    """The largest difference between a step of the Meta RNN and a round of messages, in states and what leaves.

    Args:
      network: as for `matrix_view`, with the same errors.
      s: per layer the states [N, units].
      forward: what arrives at the inputs, [M, inputs]; ignored in a ring.
      backward: what arrives at the outputs, [M, outputs]; ignored in a ring.
    """
    view = matrix_view(network)
    states, leaving = jax.jit(partial(_round, network))(s, forward, backward)
    stepped, leaves = view.step(_row(s), None if network.ring else _row([forward, backward]))
    difference = np.abs(stepped - _row(states)).max()
    return float(max(difference, np.abs(leaves - _row([] if network.ring else leaving)).max(initial=0.0)))


def _round(
    network: Network, s: Sequence[Array], forward: Array, backward: Array
) -> tuple[list[Array], tuple[Array, Array]]:
    """One round of messages: the new states of all layers, and what then leaves, forward and backward."""
    channels, layers = forward.shape[0], range(len(network.wirings))
    silent = [jnp.zeros((channels, w.units)) for w in network.wirings]
    sent = [_visit(network, k, s[k], silent[k], silent[k], ticks=0) for k in layers]
    if network.ring:
        forward, backward = sent[-1][1], sent[0][2]
    reach_before = [forward, *(message for _, message, _ in sent[:-1])]
    reach_behind = [*(message for _, _, message in sent[1:]), backward]
    after = []
    for k, w in enumerate(network.wirings):
        heard = w.spread_forward(reach_before[k]), w.spread_backward(reach_behind[k])
        if network.types is not None:
            heard = _with_type(heard[0], network.types[k]), _with_type(heard[1], network.types[k + 1])
        after.append(_visit(network, k, s[k], *heard, ticks=1))
    return [state for state, _, _ in after], (after[-1][1], after[0][2])


def _visit(
    network: Network, layer: int, s: Array, forward: Array, backward: Array, ticks: int
) -> tuple[Array, Array, Array]:
    """The state of a layer after micro ticks, and what it sends forward and backward."""
    wiring, own = network.wirings[layer], network.sets[layer]
    state, ahead, back = visit(network.cell, network.params, own, wiring, {"s": s}, forward, backward, ticks)
    return state["s"], ahead, back


def _with_type(message: Array, embedding: np.ndarray) -> Array:
    constant = np.tile(np.asarray(embedding, np.float32)[:, None], message.shape[1])
    return jnp.concatenate([message, constant])


def _row(arrays: Sequence[Array]) -> np.ndarray:
    """Arrays [n, nodes] as one row, node by node."""
    return np.concatenate([np.zeros(0), *(np.asarray(array, np.float64).T.ravel() for array in arrays)])


class _Weights(NamedTuple):
    """Meta-parameters of all sets, in double precision."""

    own: np.ndarray  # [sets, N, N], to row from column
    hears: tuple[np.ndarray, np.ndarray]  # forward and backward, [sets, N, heard]
    bias: np.ndarray  # [sets, N]
    heads: tuple[np.ndarray, np.ndarray]  # [sets, M, N]
    head_biases: tuple[np.ndarray, np.ndarray]  # [sets, M]

    @property
    def shape(self) -> tuple[int, int]:
        """N and M."""
        return self.own.shape[-1], self.heads[0].shape[-2]


def _split(network: Network) -> _Weights:
    recurrent, heads = network.params["recurrent"], [network.params[name] for name in ("forward", "backward")]
    weights = np.asarray(recurrent["w"], np.float64)
    size = weights.shape[1]
    own, forward, backward = np.split(weights, (size, (weights.shape[2] + size) // 2), axis=2)
    one, two = ((np.asarray(head["w"], np.float64), np.asarray(head["b"], np.float64)) for head in heads)
    bias = np.asarray(recurrent["b"], np.float64)
    return _Weights(own, (forward, backward), bias, (one[0], two[0]), (one[1], two[1]))


def _block(weights: _Weights, kind: tuple[float, float, float, int, int]) -> np.ndarray:
    """The block of a kind of connection, [from, to]."""
    own, *shares, sender, receiver = kind
    channels = weights.shape[1]
    block = own * weights.own[receiver] if own else np.zeros(())
    for share, hears, head in zip(shares, weights.hears, weights.heads, strict=True):
        if share:
            listens = np.eye(channels) if receiver == OUTSIDE else hears[receiver][:, :channels]
            says = np.eye(channels) if sender == OUTSIDE else head[sender]
            block = block + share * listens @ says
    return block.T


def _assemble(
    found: Connections, blocks: Sequence[np.ndarray], weights: _Weights
) -> tuple[sparse.csr_array, sparse.csr_array]:
    """The whole matrix and the names of its elements, from the block of each kind."""
    rows, columns = _starts(found.rows, weights), _starts(found.columns, weights)
    first_name = 1 + np.cumsum([0, *(block.size for block in blocks)])
    parts = []
    for index, block in enumerate(blocks):
        where = np.flatnonzero(found.kind == index)
        row = rows[found.senders[where], None, None] + np.arange(block.shape[0])[:, None]
        column = columns[found.receivers[where], None, None] + np.arange(block.shape[1])
        name = first_name[index] + np.arange(block.size).reshape(block.shape)
        whole = (len(where), *block.shape)
        parts.append([np.broadcast_to(array, whole).ravel() for array in (row, column, block, name)])
    row, column, values, names = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    shape = (rows[-1], columns[-1])
    return sparse.csr_array((values, (row, column)), shape), sparse.csr_array((names, (row, column)), shape)


def _starts(groups: Sequence[Group], weights: _Weights) -> np.ndarray:
    """The first row of each node, followed by the number of all rows."""
    size, channels = weights.shape
    widths = [np.full(len(g.names), channels if g.layer == OUTSIDE else size) for g in groups]
    return np.cumsum(np.concatenate([[0], *widths]))


def _biases(network: Network, weights: _Weights) -> tuple[np.ndarray, np.ndarray]:
    """c and d."""
    wirings, channels = network.wirings, weights.shape[1]
    sets = [np.broadcast_to(own, w.units) for own, w in zip(network.sets, wirings, strict=True)]
    # What neurons receive from the biases of heads alone, per layer [outputs, M] and [inputs, M].
    forward = [
        sending(w.reduce_forward, w.output_of, w.outputs).T @ weights.head_biases[0][own]
        for w, own in zip(wirings, sets, strict=True)
    ]
    backward = [
        sending(w.reduce_backward, w.input_of, w.inputs).T @ weights.head_biases[1][own]
        for w, own in zip(wirings, sets, strict=True)
    ]
    at_inputs = forward[-1] if network.ring else np.zeros((wirings[0].inputs, channels))
    at_outputs = backward[0] if network.ring else np.zeros((wirings[-1].outputs, channels))
    arrived = [at_inputs, *forward[:-1]], [*backward[1:], at_outputs]
    states = []
    for k, (w, own) in enumerate(zip(wirings, sets, strict=True)):
        constant = weights.bias[own]
        for side, neuron in enumerate((w.input_of, w.output_of)):
            message = arrived[side][k][neuron]
            if network.types is not None:
                message = np.hstack([message, np.tile(network.types[k + side], (w.units, 1))])
            hears = weights.hears[side][own, :, : message.shape[1]]
            constant = constant + np.einsum("unm,um->un", hears, message)
        states.append(constant.ravel())
    leaving = np.zeros(0) if network.ring else np.concatenate([forward[-1].ravel(), backward[0].ravel()])
    return np.concatenate(states), leaving
