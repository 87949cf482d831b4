"""Starting meta-training from the meta-parameters of another run, where `train.start_from` names one."""

from __future__ import annotations

from typing import Any, NamedTuple

from vsml.errors import UserError
from vsml.experiment import Experiment
from vsml.runs import sources
from vsml.types import Params


class Start(NamedTuple):
    """Meta-parameters to begin with."""

    params: Params | None  # host arrays; None: the learner draws them
    record: dict[str, Any] | None  # where they come from, for `summary.json`


def read_start(experiment: Experiment) -> Start:
    """Reads what `train.start_from` names. Raises `UserError` where it is not there or does not fit the learner."""
    if experiment.start_from is None:
        return Start(None, None)
    found = sources.of(experiment.start_from)
    wanted = experiment.learner.params_shapes(experiment.spec)
    try:
        params = found.fill(wanted)
    except ValueError as error:
        raise UserError(
            f"train.start_from: the meta-parameters of {experiment.start_from} do not fit this learner: {error}: "
            "choose the learner they were trained with, or another start"
        ) from None
    record = {"path": experiment.start_from, "step": found.about["step"], "sha256": found.sha256}
    return Start(params, record)
