"""What a run writes for people and plots: `metrics.jsonl` and TensorBoard's event file.

metrics.jsonl      one line per logged meta-step, only values that the config determines: a resumed run writes the same
evaluations.jsonl  the same for every evaluation during meta-training
events.*           TensorBoard's, with tags GROUP/METRIC/WHERE: WHERE is `meta-training` or the name of an evaluation

TensorBoard sorts by name and opens on the first groups, so these hold what is looked at first:

headline           what meta-training minimises and measures, and the headlines of the evaluators, over meta-steps
learning_curves    images of metrics over a lifetime
meta_test          the other scores of the evaluators
meta_train         what else is logged of a meta-step
parameters         histograms of V_M
rivals             scores of what the evaluators compare with

Metrics, scores and curves may have any names: this module knows only `loss`.
"""
# pyright: reportAttributeAccessIssue=false
# (the protocol buffers of tensorboardX make their classes when imported)

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo
from tensorboardX import summary as summaries
from tensorboardX.proto import summary_pb2
from tensorboardX.summary import Summary

from vsml.evaluation.base import LEARNED, Evaluation, Measure
from vsml.evaluation.summary import Summary as Evaluated
from vsml.metrics import RESERVED, of_the_objective, title
from vsml.runs.files import without_non_finite, write_whole, writing
from vsml.runs.results import read_metrics
from vsml.training.event_file import EventFile
from vsml.training.learning_curves import image, rows_of_images

HPARAMS_PLUGIN = "hparams"
COLUMNS = 5
"""Hyperparameters that the HPARAMS tab shows by default: first those marked as differing, then by name."""
HEADLINE, CURVES, META_TEST, META_TRAIN = "headline", "learning_curves", "meta_test", "meta_train"
PICTURES = "pictures"
PARAMETERS, RIVALS = "parameters", "rivals"
META_TRAINING = "meta-training"
_EDGES = np.geomspace(1e-12, 1e20, 774)  # each a tenth above the one before, as in TensorBoard's own histograms
HISTOGRAM_BINS = np.concatenate([-_EDGES[::-1], [0], _EDGES])


class MetricsFile:
    """`metrics.jsonl` or `evaluations.jsonl`: one JSON object per line, flushed line by line.

    A number that is not finite is null.

    Whatever cannot be written raises `UserError`.
    """

    def __init__(self, path: Path, resume_step: int):
        """Opens the file and drops what was written after `resume_step`, and a line that was cut short."""
        self._path = path
        kept = [json.dumps(entry) + "\n" for entry in read_metrics(path, {"step": int}) if entry["step"] <= resume_step]
        write_whole(path, "".join(kept))
        with writing(path):
            self._file = path.open("a")

    def write(self, step: int, content: Mapping[str, Any]) -> None:
        """Appends one line; `step` counts finished meta-steps."""
        with writing(self._path):
            self._file.write(json.dumps(without_non_finite({"step": step, **content}), allow_nan=False) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        with writing(self._path):
            self._file.close()


class TensorBoard:
    """The event file of one run directory. What cannot be written raises `UserError`."""

    def __init__(self, directory: Path, resume_step: int):
        """Opens or continues the event file at the first write.

        Args:
          directory: of the run.
          resume_step: what is written again is dropped from the file of earlier processes: meta-training after this
            step, evaluations from this step on, config and hyperparameters.
        """
        self._directory, self._resume_step = directory, resume_step
        self._opened: EventFile | None = None

    @property
    def _file(self) -> EventFile:
        if self._opened is None:
            self._opened = EventFile(self._directory, self._keep)
        return self._opened

    def _keep(self, step: int, tag: str) -> bool:
        group, where = tag.partition("/")[0], tag.rpartition("/")[2]
        if group in (META_TRAIN, PARAMETERS) or where == META_TRAINING:
            return step <= self._resume_step
        return group in (HEADLINE, CURVES, META_TEST, PICTURES, RIVALS) and step < self._resume_step

    def config(self, text: str, hyperparameters: Mapping[str, Any], compared: Mapping[str, str] | None = None) -> None:
        """Writes the gin config as text, and the hyperparameters.

        Args:
          text: the gin config.
          hyperparameters: by name; the first ones are shown first.
          compared: tag -> title of the metrics that runs are compared by; None before they are known: TensorBoard
            takes the columns of its HPARAMS tab from the first run that names them.
        """
        self._file.add(0, summaries.text("config.gin", "\n".join("    " + line for line in text.splitlines())))
        for summary in _hparams(hyperparameters, compared):
            self._file.add(0, summary)
        self.flush()

    def scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes scalars of meta-training: those of `metrics.jsonl`, and further ones."""
        headlines = of_the_objective(name for name in scalars if name not in RESERVED)
        for name, value in scalars.items():
            tag = f"{HEADLINE}/{name}/{META_TRAINING}" if name in headlines else f"{META_TRAIN}/{name}"
            self._file.add(step, summaries.scalar(tag, value))

    def plots(self, step: int, curves: Mapping[str, np.ndarray], params: Any) -> None:
        """Writes curves over a lifetime [T], mean over the population, and histograms of the meta-parameters.

        A curve is named `metric` or, in a mixture, `metric/DISTRIBUTION`: those of one metric share an image.
        """
        by_metric: dict[str, dict[str, np.ndarray]] = {}
        for name, curve in curves.items():
            metric, _, distribution = name.partition("/")
            by_metric.setdefault(metric.removesuffix("_curve"), {})[distribution or "population"] = curve
        for metric, lines in by_metric.items():
            heading = f"meta-training: {title(metric)} over a lifetime\nmean over the population, meta-step {step:,}"
            tag = f"{CURVES}/{metric}/{META_TRAINING}"
            self._file.add(step, image(tag, lines, heading, Measure(title(metric))))
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            values = np.asarray(leaf, np.float64)
            values = np.clip(values[np.isfinite(values)], HISTOGRAM_BINS[0], HISTOGRAM_BINS[-1])
            if values.size:
                self._file.add(step, summaries.histogram(f"{PARAMETERS}/{name}", values, HISTOGRAM_BINS))

    def scores(self, step: int, evaluation: Evaluation) -> None:
        """Writes the mean scores of one evaluator, and its rivals' in a group of their own."""
        summary, name = evaluation.summary, evaluation.name
        for score in evaluation.scores:
            group = HEADLINE if score == evaluation.headline else META_TEST
            self._file.add(step, summaries.scalar(f"{group}/{score}/{name}", summary[score]["mean"]))
            for key, rival in summary["baselines"].items():
                self._file.add(step, summaries.scalar(f"{RIVALS}/{score}/{name}/{key}", rival[score]["mean"]))

    def evaluation(self, step: int, evaluation: Evaluation) -> None:
        """Writes the outcome of one evaluator: its scores, and its curves as images."""
        self.scores(step, evaluation)
        for name, curve in evaluation.curves.items():
            rivals = {rival.label: rival.curves[name] for rival in evaluation.rivals.values() if name in rival.curves}
            measure = evaluation.measure(name)
            over = "" if measure.places else " over a lifetime"
            heading = f"{title(evaluation.name)}: {measure.title}{over}\n"
            heading += f"{evaluation.lifetimes} lifetimes, after {step:,} meta-steps"
            tag = f"{CURVES}/{name}/{evaluation.name}"
            self._file.add(step, image(tag, {LEARNED: curve, **rivals}, heading, measure))
        for name, picture in evaluation.pictures.items():
            heading = f"{title(evaluation.name)}: {name}, after {step:,} meta-steps"
            self._file.add(step, rows_of_images(f"{PICTURES}/{name}/{evaluation.name}", picture, heading))
        self.flush()

    def flush(self) -> None:
        """Pushes everything to disk."""
        if self._opened is not None:
            self._opened.flush()

    def close(self) -> None:
        """Closes the event file."""
        if self._opened is not None:
            self._opened.close()


def compared_by(metrics: Sequence[Mapping[str, Any]], evaluations: Mapping[str, Any]) -> dict[str, str]:
    """What runs are compared by: the headline of each evaluation, and the end of meta-training.

    Args:
      metrics: the entries of `metrics.jsonl`.
      evaluations: summaries by name.

    Returns:
      Tag of a scalar, of which the last value counts -> its title.
    """
    headlines = {name: Evaluated(name, content).headline for name, content in evaluations.items()}
    tested = {f"{HEADLINE}/{score}/{name}": f"{title(name)}: {title(score)}" for name, score in headlines.items()}
    measured = of_the_objective(metrics[-1]) if metrics else []
    trained = {f"{HEADLINE}/{name}/{META_TRAINING}": f"{META_TRAINING}: {title(name)}" for name in measured}
    return tested | trained


def _hparams(hyperparameters: Mapping[str, Any], metrics: Mapping[str, str] | None) -> Iterable[Summary]:
    """The summaries that make a run a row of TensorBoard's HPARAMS tab; metrics are tags of the same event file."""
    start = SessionStartInfo()
    for name, value in hyperparameters.items():
        if is_number(value):
            start.hparams[name].number_value = value
        else:
            start.hparams[name].string_value = re.sub(r"@([\w./]+)\(\)", r"\1", str(value))  # @cells.LSTM()
    contents = {"_hparams_/session_start_info": HParamsPluginData(session_start_info=start, version=0)}
    if metrics is not None:
        experiment = api_pb2.Experiment(
            hparam_infos=[
                api_pb2.HParamInfo(
                    name=name,
                    differs=index < COLUMNS,
                    type=api_pb2.DATA_TYPE_FLOAT64 if is_number(value) else api_pb2.DATA_TYPE_STRING,
                )
                for index, (name, value) in enumerate(hyperparameters.items())
            ],
            metric_infos=[
                api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=shown)
                for tag, shown in metrics.items()
            ],
        )
        contents["_hparams_/experiment"] = HParamsPluginData(experiment=experiment, version=0)
    for tag, content in contents.items():
        plugin = summary_pb2.SummaryMetadata.PluginData(plugin_name=HPARAMS_PLUGIN, content=content.SerializeToString())
        yield Summary(value=[Summary.Value(tag=tag, metadata=summary_pb2.SummaryMetadata(plugin_data=plugin))])


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
