"""Which sub-RNNs of a network receive from which, and with which parameter sets. This holds for any cell.

Nodes are sub-RNNs, and the neurons at both ends of the network, where messages arrive from outside and leave. Node r is
connected to node c where what r sends is part of what c receives:

    own        a sub-RNN and its own next state
    forward    (a, b) of layer k and every (b, c) of layer k + 1;  input a and (a, b);  (a, b) and output b
    backward   (b, c) of layer k + 1 and every (a, b) of layer k;  the feedback at b and (a, b);  (a, b) and input a

Within one layer no sub-RNN receives from another one: a layer's outputs are not its inputs. If the last layer has as
many outputs as the first has inputs, the network can be closed to a ring. There the outputs are the inputs: forward
messages of the last layer reach the first, backward messages of the first reach the last. In a ring of a single layer,
the layer receives from itself in both directions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy import sparse

from vsml.errors import UserError
from vsml.learners.base import Learner
from vsml.learners.vsml import VSML
from vsml.sparsity.base import Reduce, Wiring
from vsml.tasks.base import TaskSpec

OUTSIDE = -1
"""In place of a parameter set: a neuron at the end of the network."""
MOST_PAIRS = 5_000_000
"""Most pairs of connected nodes that are listed; more take too much memory and cannot be drawn."""


class Group(NamedTuple):
    """Rows or columns that belong together."""

    name: str
    names: tuple[str, ...]  # of its nodes
    layer: int  # 0-based; OUTSIDE for neurons


class Kind(NamedTuple):
    """What makes two connections copies of one another: the same shares of the same messages, the same parameters."""

    own: float  # how much of a sub-RNN's own state goes into the next one: 1 or 0
    forward: float  # share of the sender's forward message that is received: 1 for a sum, 1 / A for a mean
    backward: float
    sender: int  # parameter set, or OUTSIDE
    receiver: int

    @property
    def type(self) -> str:
        """What is received, without shares and parameter sets: `forward`, `forward in`, `own + backward`."""
        end = " in" if self.sender == OUTSIDE else " out" if self.receiver == OUTSIDE else ""
        return " + ".join(name for name, share in zip(PARTS, self[:3], strict=True) if share) + end

    @property
    def shares(self) -> str:
        """The same with shares: `own + 0.5 forward`; what arrives from outside has the share 1."""
        end = " in" if self.sender == OUTSIDE else " out" if self.receiver == OUTSIDE else ""
        parts = zip(PARTS, self[:3], strict=True)
        return " + ".join(name if share == 1 else f"{share:.3g} {name}" for name, share in parts if share) + end

    @property
    def sets(self) -> str:
        """The parameter sets, counted from 1: `set 2`, `set 1 to 2`."""
        used = [f"{index + 1}" for index in (self.sender, self.receiver) if index != OUTSIDE]
        return f"set {' to '.join(dict.fromkeys(used))}"


PARTS = Kind._fields[:3]


@dataclass(frozen=True, eq=False)
class Connections:
    """All pairs of connected nodes.

    Attributes:
      rows: the senders: `inputs` and `feedback`, each neuron a node, then the layers, each sub-RNN a node.
      columns: the receivers: the layers, then `outputs` and `to inputs`. A ring has layers only.
      senders: int [pairs], the row of each pair.
      receivers: int [pairs], the column.
      kinds: the different kinds of connections, own state first.
      kind: int [pairs], index of each pair's kind.
    """

    rows: tuple[Group, ...]
    columns: tuple[Group, ...]
    senders: np.ndarray
    receivers: np.ndarray
    kinds: tuple[Kind, ...]
    kind: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns, in nodes."""
        return sum(len(g.names) for g in self.rows), sum(len(g.names) for g in self.columns)

    @property
    def units(self) -> int:
        """Sub-RNNs."""
        return sum(len(group.names) for group in self.rows if group.layer != OUTSIDE)


def connections_of(learner: Learner, spec: TaskSpec, backward_pass: bool = False) -> Connections:
    """The connections of a VSML learner, with the parameter sets of its forward or its backward pass.

    Raises:
      UserError: for a learner without sub-RNNs, for convolutions, and for networks that are too large.
    """
    wirings, sets = wirings_and_sets(learner, spec, backward_pass)
    return connections(wirings, sets)


def wirings_and_sets(
    learner: Learner, spec: TaskSpec, backward_pass: bool = False
) -> tuple[list[Wiring], list[int | np.ndarray]]:
    """The wiring of each layer of a VSML learner, and the parameter set, or sets [units]. Raises `UserError`."""
    if not isinstance(learner, VSML):
        raise UserError(f"learners.{type(learner).__name__} has no sub-RNNs to draw: use learners.VSML")
    wirings = learner.wirings(spec)
    return wirings, [learner.sharing.set_of(k, wirings, backward_pass) for k in range(len(wirings))]


def connections(wirings: Sequence[Wiring], sets: Sequence[int | np.ndarray], ring: bool = False) -> Connections:
    """Which sub-RNNs receive from which in layers of these wirings.

    Args:
      wirings: of each layer; the outputs of one are the inputs of the next.
      sets: the parameter set of each layer, or of each of its sub-RNNs, int [units].
      ring: whether the outputs of the last layer are the inputs of the first.

    Raises:
      UserError: for convolutions, for ends that cannot form a ring, and for networks that are too large.
    """
    _check(wirings, ring)
    rows, columns = _groups(wirings, ring)
    shape = sum(len(g.names) for g in rows), sum(len(g.names) for g in columns)
    found = list(_blocks(wirings, ring))
    ends = np.concatenate([sender * shape[1] + receiver for _, sender, receiver, _ in found])
    pairs, pair = np.unique(ends, return_inverse=True)
    shares, start = np.zeros((len(pairs), len(PARTS))), 0
    for part, sender, _, share in found:  # a pair has each part at most once
        shares[pair[start : start + len(sender)], part] = share
        start += len(sender)
    senders, receivers = np.divmod(pairs, shape[1])
    of_units = np.concatenate([np.broadcast_to(own, w.units) for own, w in zip(sets, wirings, strict=True)])
    outside = np.full(shape[0] - len(of_units), OUTSIDE)
    of_rows, of_columns = np.concatenate([outside, of_units]), np.concatenate([of_units, outside])
    described = np.column_stack([-shares, of_rows[senders], of_columns[receivers]])  # own state first
    kinds, kind = np.unique(described, axis=0, return_inverse=True)
    named = tuple(Kind(-own, -forward, -backward, int(s), int(r)) for own, forward, backward, s, r in kinds.tolist())
    return Connections(rows, columns, senders, receivers, named, kind.ravel())


def sending(reduce: Reduce, to: np.ndarray, neurons: int) -> sparse.csr_array:
    """A reduction as a matrix [units, neurons], given the neuron that each sub-RNN sends to."""
    counts = np.bincount(to, minlength=neurons)
    scale = np.broadcast_to(np.asarray(reduce.total, np.float64).ravel(), neurons) / np.maximum(counts, 1)
    return sparse.csr_array((scale[to], (np.arange(len(to)), to)), shape=(len(to), neurons))


def hearing(source: np.ndarray, neurons: int) -> sparse.csr_array:
    """The messages of neurons spread over sub-RNNs as a matrix [neurons, units], given the neuron each listens to."""
    return sparse.csr_array((np.ones(len(source)), (source, np.arange(len(source)))), shape=(neurons, len(source)))


def _check(wirings: Sequence[Wiring], ring: bool) -> None:
    if any(wiring.places > 1 for wiring in wirings):
        raise UserError(
            "a convolution averages states over places, which one matrix cannot express: choose another wiring"
        )
    first, last = wirings[0], wirings[-1]
    if ring and first.inputs != last.outputs:
        raise UserError(
            f"{first.inputs} inputs and {last.outputs} outputs cannot form a ring: set ring=False, or use as many "
            "outputs as inputs"
        )
    between = [*pairwise(wirings), *([(last, first)] if ring else [])]
    pairs = 2 * sum(
        int(np.bincount(one.output_of, minlength=one.outputs) @ np.bincount(two.input_of, minlength=two.inputs))
        for one, two in between
    )
    if pairs > MOST_PAIRS:
        raise UserError(
            f"{pairs:,} pairs of sub-RNNs send to each other, too many to draw: draw a network of fewer neurons, "
            f"with {MOST_PAIRS:,} pairs at most"
        )


def _groups(wirings: Sequence[Wiring], ring: bool) -> tuple[tuple[Group, ...], tuple[Group, ...]]:
    """Rows and columns."""

    def neurons(name: str, letter: str, count: int) -> Group:
        return Group(name, tuple(f"{letter}{index}" for index in range(count)), OUTSIDE)

    layers = tuple(
        Group(f"layer {k + 1}", tuple(f"{a},{b}" for a, b in zip(w.input_of, w.output_of, strict=True)), k)
        for k, w in enumerate(wirings)
    )
    if ring:
        return layers, layers
    inputs, outputs = wirings[0].inputs, wirings[-1].outputs
    return (
        (neurons("inputs", "x", inputs), neurons("feedback", "e", outputs), *layers),
        (*layers, neurons("outputs", "y", outputs), neurons("to inputs", "z", inputs)),
    )


class _Block(NamedTuple):
    """The connections of one part between two groups, without repetition."""

    part: int  # index in PARTS
    senders: np.ndarray
    receivers: np.ndarray
    shares: np.ndarray


def _blocks(wirings: Sequence[Wiring], ring: bool) -> Iterator[_Block]:
    """All blocks that are not zero."""
    own, forward, backward = range(len(PARTS))
    units = np.cumsum([0, *(w.units for w in wirings)])
    outside = 0 if ring else wirings[0].inputs + wirings[-1].outputs
    row, column = outside + units, units

    def block(part: int, matrix: sparse.csr_array, row: int, column: int) -> _Block:
        found = matrix.tocoo()
        return _Block(part, row + found.row.astype(np.int64), column + found.col.astype(np.int64), found.data)

    says_forward = [sending(w.reduce_forward, w.output_of, w.outputs) for w in wirings]
    says_backward = [sending(w.reduce_backward, w.input_of, w.inputs) for w in wirings]
    hears_forward = [hearing(w.input_of, w.inputs) for w in wirings]
    hears_backward = [hearing(w.output_of, w.outputs) for w in wirings]
    layers, last = range(len(wirings)), len(wirings) - 1
    for k in layers:
        yield block(own, sparse.csr_array(sparse.eye_array(wirings[k].units)), row[k], column[k])
    for k, after in _neighbours(layers, ring):
        yield block(forward, says_forward[k] @ hears_forward[after], row[k], column[after])
        yield block(backward, says_backward[after] @ hears_backward[k], row[after], column[k])
    if not ring:
        yield block(forward, hears_forward[0], 0, column[0])
        yield block(backward, hears_backward[last], wirings[0].inputs, column[last])
        yield block(forward, says_forward[last], row[last], units[-1])
        yield block(backward, says_backward[0], row[0], units[-1] + wirings[last].outputs)


def _neighbours(layers: range, ring: bool) -> Iterable[tuple[int, int]]:
    return [(k, (k + 1) % len(layers)) for k in layers if ring or k + 1 in layers]
