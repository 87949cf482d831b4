"""The picture of a network for the command line and for reports: its weights, or which sub-RNNs receive from which."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from vsml import config as configs
from vsml.analysis import plots
from vsml.analysis.connections import OUTSIDE, Connections, connections_of
from vsml.analysis.document import Block, Heading, Picture
from vsml.analysis.matrix_drawing import LARGEST_DRAWING, LARGEST_READABLE, draw, draw_connections
from vsml.analysis.matrix_view import matrix_view, network_of, refusal
from vsml.errors import UserError
from vsml.learners.base import Learner
from vsml.learners.vsml import VSML
from vsml.runs import names, sources
from vsml.tasks.base import TaskSpec
from vsml.types import Params

CAPTION = (
    "The network as the weight matrix of one Meta RNN, a pixel per pair of nodes: rows send, columns receive, zeros "
    "are white, equal colours share their weights."
)


def network_picture(
    learner: Learner, params: Params, spec: TaskSpec, backward_pass: bool = False
) -> tuple[Figure, str]:
    """The matrix of a network with these meta-parameters.

    Args:
      learner: a learner made of sub-RNNs.
      params: its meta-parameters.
      spec: the tasks that it is built for.
      backward_pass: whether the parameter sets are those of the backward pass.

    Returns:
      The picture, and a line that says what it shows.

    Raises:
      UserError: for a learner without sub-RNNs, a convolution, or too large a network.
    """
    found = connections_of(learner, spec, backward_pass)
    assert isinstance(learner, VSML)
    title = _title(learner, found)
    if why := refusal(learner.cell):
        return draw_connections(found, title), f"{title}; without weights: {why}"
    if max(found.shape) > LARGEST_DRAWING:  # its elements, which are even more, would not be visible
        return draw_connections(found, title), title
    return draw(matrix_view(network_of(learner, params, spec, backward_pass)), title), title


def report_section(run: Path) -> list[Block]:
    """The section of a run's report; empty where there are no sub-RNNs, or too many to draw."""
    try:
        learner = configs.load(str(run / names.CONFIG_GIN)).build().learner
        found = connections_of(learner, sources.task_specs(sources.of_run(run).about)[0])
    except UserError:
        return []
    assert isinstance(learner, VSML)
    if max(found.shape) > LARGEST_READABLE:
        return []
    figure = draw_connections(found, _title(learner, found))
    return [Heading("The network"), Picture("network", CAPTION, plots.as_svg(figure))]


def _title(learner: VSML, found: Connections) -> str:
    """`cells.LSTM, 64 -> 32 -> 10 neurons: 2,368 sub-RNNs of sharing.Shared`."""
    ends = {group.name: len(group.names) for group in (*found.rows, *found.columns) if group.layer == OUTSIDE}
    sizes = [ends["inputs"], *learner.hidden, ends["outputs"]]
    return (
        f"cells.{type(learner.cell).__name__}, {' -> '.join(f'{size:,}' for size in sizes)} neurons: "
        f"{found.units:,} sub-RNNs, sharing.{type(learner.sharing).__name__}"
    )
