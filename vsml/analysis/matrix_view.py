"""A layer of vanilla sub-RNNs as one Meta RNN: its weight matrix, with shared and zero entries.

A layer with as many outputs as inputs hears itself: what it sends forward to neuron b comes back as the message of
input b, what it sends backward to neuron a as that of output a. With states as rows, listed sub-RNN by sub-RNN,

    s' = act(s W~ + c)           W~ = I (x) W + P (x) C + Q (x) U

    W   what a sub-RNN's own state adds to its next one
    C   the same of a state heard forward: weights on the forward message times forward head;   U backward
    P   how much each sub-RNN hears of each forward: spread_forward(reduce_forward(I));   Q backward, P^T for sums
    c   the bias, and those of all heads that are heard

Source: Kirsch & Schmidhuber 2021, arXiv 2012.14905, section 2: VSML is a Meta RNN with weight sharing and sparsity.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from scipy import sparse

from vsml.cells.activations import ACTIVATIONS, Activation
from vsml.cells.base import Cell
from vsml.cells.vanilla import Vanilla
from vsml.errors import UserError
from vsml.sparsity.base import Wiring
from vsml.types import Array, Params

PARTS = ("own", "forward", "backward")
LARGEST_DRAWING = 3_000
"""Rows beyond which an element is smaller than a point of the drawing."""
MOST_LABELLED = 10
"""Kinds that still have colours which can be told apart."""
LARGEST_LABELLED = 40
"""Sub-RNNs that still have room for their names."""


@dataclass(frozen=True, eq=False)
class MatrixView:
    """A layer as a Meta RNN. Entry j of the state of sub-RNN u is number u * size + j.

    Attributes:
      weights: W~, [units * size, units * size]: element (r, c) is what state r adds to the next state c.
      bias: c, [units * size].
      activation: act, by name.
      names: int, where `weights` is not 0: the shared entry that an element is, counted from 1. Name n is entry
        (i, j) = divmod((n - 1) % size^2, size) of the matrix of kind (n - 1) // size^2.
      kinds: [kinds, 3]: how often W, C and U go into the matrix of a kind.
      pairs: int [units, 2]: the neurons before and behind each sub-RNN.
      size: N, the length of a sub-RNN's state.
    """

    weights: sparse.csr_array
    bias: np.ndarray
    activation: Activation
    names: sparse.csr_array
    kinds: np.ndarray
    pairs: np.ndarray
    size: int

    def step(self, s: np.ndarray) -> np.ndarray:
        """The next states [units * size] of the Meta RNN."""
        return np.asarray(ACTIVATIONS[self.activation](jnp.asarray(s @ self.weights + self.bias)))


def matrix_view(cell: Cell, params: Params, wiring: Wiring) -> MatrixView:
    """The Meta RNN that a layer of vanilla sub-RNNs is.

    Args:
      cell: vanilla, without LayerNorm, which is not linear.
      params: one set of its meta-parameters.
      wiring: has as many neurons behind as before, and every sub-RNN in one place. Who hears whom, [units, units], is
        written out in full on the way.

    Raises:
      UserError: for a cell or a wiring that has no such view.
    """
    vanilla = _checked(cell, wiring)
    unit_vectors = jnp.eye(wiring.units)
    shares = np.stack(
        [
            np.eye(wiring.units),
            np.asarray(wiring.spread_forward(wiring.reduce_forward(unit_vectors)), np.float64),
            np.asarray(wiring.spread_backward(wiring.reduce_backward(unit_vectors)), np.float64),
        ]
    )
    blocks, bias = _blocks(vanilla, params, wiring)
    own, forward, backward = (
        sparse.kron(sparse.csr_array(share), block, "csr") for share, block in zip(shares, blocks, strict=True)
    )
    kinds, names = _names(shares, vanilla.size)
    return MatrixView(
        weights=sparse.csr_array(own + forward + backward),
        bias=bias,
        activation=vanilla.activation,
        names=names,
        kinds=kinds,
        pairs=np.stack([wiring.before, wiring.behind], axis=1),
        size=vanilla.size,
    )


def step_difference(cell: Cell, params: Params, wiring: Wiring, s: Array) -> float:
    """The largest difference between one step of the Meta RNN and one of message passing, from states s [N, units].

    Arguments and errors are those of `matrix_view`.
    """
    view, silent = matrix_view(cell, params, wiring), jnp.zeros((0, wiring.units))
    forward, backward = cell.messages(params, {"s": s}, silent, silent, wiring.reduce_forward, wiring.reduce_backward)
    passed = cell.update(params, {"s": s}, wiring.spread_forward(forward), wiring.spread_backward(backward))["s"]
    stepped = view.step(np.asarray(s, np.float64).T.ravel())
    return float(np.max(np.abs(stepped - np.asarray(passed, np.float64).T.ravel())))


def draw(view: MatrixView) -> Figure:
    """The weight matrix: each shared entry in a colour of its own, shades of one colour per kind, zeros white.

    Raises:
      UserError: if it has too many rows to be seen.
    """
    rows, units = len(view.bias), len(view.pairs)
    if rows > LARGEST_DRAWING:
        raise UserError(
            f"a matrix of {rows} rows is too large to draw: use fewer neurons or a smaller cell, "
            f"up to {LARGEST_DRAWING} rows"
        )
    figure = Figure(figsize=(7, 8), layout="constrained")
    axes = figure.subplots()
    colours = _colours(len(view.kinds), view.size)
    axes.imshow(colours[view.names.toarray()], interpolation="nearest", extent=(0, units, units, 0))
    axes.set_xlabel("to sub-RNN (neuron before, neuron behind)")
    axes.set_ylabel("from sub-RNN")
    if units <= LARGEST_LABELLED:
        names = [f"{before},{behind}" for before, behind in view.pairs]
        axes.set_xticks(np.arange(units) + 0.5, names, rotation=90 if units > 10 else 0)
        axes.set_yticks(np.arange(units) + 0.5, names)
        axes.tick_params(length=0, labelsize=min(10, 300 / units))
        for line in range(1, units):
            axes.axhline(line, color="0.85", linewidth=0.5)
            axes.axvline(line, color="0.85", linewidth=0.5)
    middle = colours[1:].reshape(len(view.kinds), -1, 3)[:, view.size**2 // 2]
    if len(view.kinds) <= MOST_LABELLED:
        handles = [Patch(color=colour, label=_label(kind)) for colour, kind in zip(middle, view.kinds, strict=True)]
        figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return figure


def save_drawing(view: MatrixView, path: Path) -> None:
    """Writes the drawing as .png, .svg or .pdf.

    Raises:
      UserError: for another suffix, or a matrix too large to be seen.
    """
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise UserError(f"{path} has no known kind of picture: let it end in .png, .svg or .pdf")
    draw(view).savefig(path, dpi=150)


def _checked(cell: Cell, wiring: Wiring) -> Vanilla:
    """The cell, if it and the wiring have a matrix view."""
    if not isinstance(cell, Vanilla):
        raise UserError(f"cells.{type(cell).__name__} has no matrix view: only sums of states do, use cells.Vanilla")
    if cell.layer_norm:
        raise UserError("messages with LayerNorm have no matrix view: set cells.Vanilla.layer_norm to False")
    if wiring.inputs != wiring.outputs:
        raise UserError(
            f"a layer of {wiring.inputs} inputs and {wiring.outputs} outputs cannot hear itself: "
            "give it as many outputs as inputs"
        )
    if wiring.places > 1:
        raise UserError("a convolution averages states over places, which one matrix cannot: choose another wiring")
    return cell


def _blocks(cell: Vanilla, params: Params, wiring: Wiring) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """W, C and U, [N, N] from row to column, and the bias of all states, [units * N]."""
    weights = np.asarray(params["recurrent"]["w"], np.float64)
    heard = (weights.shape[1] - cell.size) // 2
    own, hears_forward, hears_backward = np.split(weights, (cell.size, cell.size + heard), axis=1)
    blocks, constant = [own.T], jnp.ones((1, wiring.units))
    bias = np.tile(np.asarray(params["recurrent"]["b"], np.float64), (wiring.units, 1))
    for hears, name, arrived in (
        (hears_forward, "forward", wiring.spread_forward(wiring.reduce_forward(constant))),
        (hears_backward, "backward", wiring.spread_backward(wiring.reduce_backward(constant))),
    ):
        head_weights, head_bias = (np.asarray(params[name][leaf], np.float64) for leaf in ("w", "b"))
        hears = hears[:, : len(head_bias)]
        blocks.append((hears @ head_weights).T)
        bias += np.asarray(arrived, np.float64).T * (hears @ head_bias)
    return tuple(blocks), bias.ravel()


def _names(shares: np.ndarray, size: int) -> tuple[np.ndarray, sparse.csr_array]:
    """The kinds of blocks, and the name of each element, given the shares [3, units, units] of W, C and U."""
    from_unit, to_unit = np.nonzero(shares.any(axis=0))
    kinds, kind = np.unique(-shares[:, from_unit, to_unit].T, axis=0, return_inverse=True)  # own state first
    units = shares.shape[1]
    entries = size**2 * kind.reshape(-1, 1, 1) + 1 + np.arange(size**2).reshape(size, size)
    rows = from_unit[:, None, None] * size + np.arange(size)[:, None]
    columns = to_unit[:, None, None] * size + np.arange(size)
    where = tuple(np.broadcast_to(index, entries.shape).ravel() for index in (rows, columns))
    return -kinds, sparse.csr_array((entries.ravel(), where), shape=(units * size, units * size))


def _colours(num_kinds: int, size: int) -> np.ndarray:
    """Colours by name, [1 + kinds * N^2, 3]: white for no name, then light to dark shades of a colour per kind."""
    kinds = np.arange(num_kinds)
    base = colormaps["tab10"](kinds) if num_kinds <= MOST_LABELLED else colormaps["hsv"](kinds / num_kinds)
    shade = np.linspace(0.35, 1.0, size**2)[:, None] if size > 1 else np.ones((1, 1))
    shades = 1 - shade * (1 - base[:, None, :3])
    return np.concatenate([np.ones((1, 3)), shades.reshape(-1, 3)])


def _label(kind: np.ndarray) -> str:
    """`own + 0.5 forward`."""
    return " + ".join(
        part if share == 1 else f"{share:.3g} {part}" for share, part in zip(kind, PARTS, strict=True) if share
    )
