"""What a run writes for people and plots: `metrics.jsonl` and TensorBoard event files.

metrics.jsonl   one line per logged meta-step, of what the config determines: a resumed run writes the same lines
train/          scalars, learning curves over a lifetime as images, histograms of V_M
eval/           scalars and learning curves of the evaluators
the run itself  the config as text, hyperparameters joined with the metrics of both
"""
# pyright: reportAttributeAccessIssue=false
# (the protocol buffers of tensorboardX make their classes when imported)

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tensorboardX import SummaryWriter
from tensorboardX.proto import api_pb2, plugin_hparams_pb2, summary_pb2
from tensorboardX.summary import Summary

from vsml.evaluation.base import Evaluation

HPARAMS_PLUGIN = "hparams"
TRAIN_METRICS = ("loss", "accuracy")


class MetricsFile:
    """`metrics.jsonl`: one JSON object per line, flushed line by line."""

    def __init__(self, path: Path, resume_step: int):
        """Opens the file and drops what was written after the checkpoint of `resume_step`, also a line cut short."""
        kept = [line for line in _whole_lines(path) if json.loads(line)["step"] <= resume_step]
        path.write_text("".join(kept))
        self._file = path.open("a")

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Appends one line; `step` counts finished meta-steps."""
        self._file.write(json.dumps({"step": step, **scalars}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The entries of a `metrics.jsonl`, oldest first; a line that is being written is left out."""
    return [json.loads(line) for line in _whole_lines(path)]


def _whole_lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


class TensorBoard:
    """The event files of one run directory."""

    def __init__(self, directory: Path, resume_step: int):
        """Opens the event files; what an earlier process wrote after `resume_step` is purged from view."""
        self._directory = directory
        self._purge_step = resume_step + 1 if resume_step else None
        self._writers: dict[str, SummaryWriter] = {}

    def _writer(self, name: str) -> SummaryWriter:
        """The event file of a subdirectory, made when first written to."""
        if name not in self._writers:
            self._writers[name] = SummaryWriter(str(self._directory / name), purge_step=self._purge_step)
        return self._writers[name]

    def config(self, text: str, hyperparameters: Mapping[str, Any], evaluators: Iterable[str]) -> None:
        """Writes the gin config as text, and the hyperparameters with the metrics that they are compared by."""
        run = self._writer(".")
        run.add_text("config.gin", "\n".join("    " + line for line in text.splitlines()), 0)
        metrics = [("train", tag) for tag in TRAIN_METRICS]
        metrics += [("eval", f"{name}/cumulative_accuracy") for name in evaluators]
        for summary in _hparams(hyperparameters, metrics):
            assert run.file_writer is not None
            run.file_writer.add_summary(summary, 0)
        self.flush()

    def scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes meta-training scalars."""
        for tag, value in scalars.items():
            self._writer("train").add_scalar(tag, value, step)

    def plots(self, step: int, accuracy_curve: np.ndarray, params: Any) -> None:
        """Writes the accuracy over a lifetime [T], mean over the population, and histograms of the meta-parameters."""
        figure = _learning_curves({"population": accuracy_curve}, f"meta-step {step}")
        self._writer("train").add_image("learning_curve", _pixels(figure), step, dataformats="HWC")
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            self._writer("train").add_histogram(
                "V_M/" + jax.tree_util.keystr(path, simple=True, separator="/"), np.asarray(leaf), step
            )

    def evaluation(self, step: int, evaluation: Evaluation) -> None:
        """Writes the outcome of one evaluator: accuracies, the baselines' beside, and the mean learning curves."""
        name, summary = evaluation.name, evaluation.summary
        rows = {"": summary, **{f"{key}/": row for key, row in (summary.get("baselines") or {}).items()}}
        for prefix, row in rows.items():
            for metric in ("cumulative_accuracy", "final_accuracy"):
                self._writer("eval").add_scalar(f"{name}/{prefix}{metric}", row[metric]["mean"], step)
        curves = {key: curve.mean(axis=0) for key, curve in evaluation.curves.items() if key.endswith("correct")}
        self._writer("eval").add_image(
            f"{name}/learning_curve", _pixels(_learning_curves(curves, name)), step, dataformats="HWC"
        )
        self.flush()

    def flush(self) -> None:
        """Pushes everything to disk."""
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """Closes the event files."""
        for writer in self._writers.values():
            writer.close()


def _hparams(hyperparameters: Mapping[str, Any], metrics: Iterable[tuple[str, str]]) -> Iterable[Summary]:
    """The two summaries that make a run a row of TensorBoard's HPARAMS tab; metrics are (event directory, tag)."""
    experiment = api_pb2.Experiment(
        hparam_infos=[
            api_pb2.HParamInfo(
                name=name,
                type=api_pb2.DATA_TYPE_FLOAT64 if _is_number(value) else api_pb2.DATA_TYPE_STRING,
            )
            for name, value in hyperparameters.items()
        ],
        metric_infos=[api_pb2.MetricInfo(name=api_pb2.MetricName(group=group, tag=tag)) for group, tag in metrics],
    )
    start = plugin_hparams_pb2.SessionStartInfo()
    for name, value in hyperparameters.items():
        if _is_number(value):
            start.hparams[name].number_value = value
        else:
            start.hparams[name].string_value = str(value)
    contents = {
        "_hparams_/experiment": plugin_hparams_pb2.HParamsPluginData(experiment=experiment, version=0),
        "_hparams_/session_start_info": plugin_hparams_pb2.HParamsPluginData(session_start_info=start, version=0),
    }
    for tag, content in contents.items():
        plugin = summary_pb2.SummaryMetadata.PluginData(plugin_name=HPARAMS_PLUGIN, content=content.SerializeToString())
        yield Summary(value=[Summary.Value(tag=tag, metadata=summary_pb2.SummaryMetadata(plugin_data=plugin))])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _learning_curves(curves: Mapping[str, np.ndarray], title: str) -> Figure:
    """Accuracy against the number of examples seen, smoothed over a twentieth of the lifetime."""
    figure = Figure(figsize=(5, 3), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    for name, curve in curves.items():
        width = max(1, len(curve) // 20)
        smooth = np.convolve(curve, np.ones(width) / width, mode="valid")
        axes.plot(np.arange(len(smooth)) + width, smooth, label=name)
    axes.set(xlabel="examples seen", ylabel="accuracy", ylim=(0, 1), title=title)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    return figure


def _pixels(figure: Figure) -> np.ndarray:
    """A figure as [height, width, 3] uint8."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
