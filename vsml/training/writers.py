"""What a run writes for people and plots: `metrics.jsonl` and TensorBoard event files.

metrics.jsonl      one line per logged meta-step, of what the config determines: a resumed run writes the same lines
evaluations.jsonl  the same of every evaluation during meta-training
train/             scalars, curves over a lifetime as images, histograms of V_M
eval/              scores of the evaluators over meta-steps, and their curves as images
the run itself     the config as text, hyperparameters joined with the metrics of both

Metrics, scores and curves are written as they come: no name is known here but `loss`.
"""
# pyright: reportAttributeAccessIssue=false
# (the protocol buffers of tensorboardX make their classes when imported)

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from tensorboardX import summary as summaries
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import api_pb2, event_pb2, plugin_hparams_pb2, summary_pb2
from tensorboardX.summary import Summary

from vsml.evaluation.base import Evaluation, Measure
from vsml.evaluation.summary import Summary as Evaluated
from vsml.metrics import of_the_objective, title
from vsml.runs.files import without_non_finite, write_whole, writing
from vsml.runs.results import read_metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HPARAMS_PLUGIN = "hparams"
META_TRAIN, META_TEST = "meta_train", "meta_test"
LEARNING_CURVE = "learning_curve"
"""Image of the first curve; others are named themselves."""
FLUSH_SECONDS = 5
_EDGES = np.geomspace(1e-12, 1e20, 774)  # each a tenth above the one before, as in TensorBoard's own histograms
HISTOGRAM_BINS = np.concatenate([-_EDGES[::-1], [0], _EDGES])


class MetricsFile:
    """`metrics.jsonl` or `evaluations.jsonl`: one JSON object per line, flushed line by line.

    A number that is not finite is null.

    Whatever cannot be written raises `UserError`.
    """

    def __init__(self, path: Path, resume_step: int):
        """Opens the file and drops what was written after `resume_step`, also a line cut short."""
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


class EventFile:
    """One of TensorBoard's event files, written by the calling thread.

    tensorboardX's own writer hands everything to a thread, which a full disk ends unnoticed: the next calls then wait
    for ever, and what it had not written yet when a process is killed is missing after a resume.
    """

    def __init__(self, directory: Path, purge_step: int):
        """Opens a new file; of the older ones beside it what was written from `purge_step` on is purged from view."""
        self._directory = directory
        with writing(directory):
            directory.mkdir(parents=True, exist_ok=True)
            # Several files may be opened within a second, which is all that the name would tell apart.
            self._file = EventsWriter(str(directory / "events"), f".{time.time_ns() % 10**9:09d}")
        self._flushed = time.monotonic()
        self._write(step=purge_step, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))

    def add(self, step: int, summary: Summary) -> None:
        """Writes a summary."""
        self._write(step=step, summary=summary)
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def _write(self, **content: Any) -> None:
        with writing(self._directory):
            self._file.write_event(event_pb2.Event(wall_time=time.time(), **content))

    def flush(self) -> None:
        """Pushes everything to disk."""
        with writing(self._directory):
            self._file.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Closes the file."""
        with writing(self._directory):
            self._file.close()


class TensorBoard:
    """The event files of one run directory. What cannot be written raises `UserError`."""

    def __init__(self, directory: Path, resume_step: int):
        """Opens the event files.

        Args:
          directory: of the run.
          resume_step: what earlier processes wrote of meta-training after this step, and of evaluations from it on, is
            purged from view: it is written again.
        """
        self._directory = directory
        self._purge_steps = {".": 0, "train": resume_step + 1 if resume_step else 0, "eval": resume_step}
        self._files: dict[str, EventFile] = {}

    def _file(self, name: str) -> EventFile:
        """The event file of a subdirectory, made when first written to."""
        if name not in self._files:
            self._files[name] = EventFile(self._directory / name, self._purge_steps[name])
        return self._files[name]

    def config(self, text: str, hyperparameters: Mapping[str, Any], compared: Iterable[str] | None = None) -> None:
        """Writes the gin config as text, and the hyperparameters.

        What an earlier process wrote of them is removed, since TensorBoard would go on showing it.

        Args:
          text: the gin config.
          hyperparameters: by name.
          compared: tags of the metrics that runs are compared by; None before they are known: TensorBoard takes the
            columns of its HPARAMS tab from the first run that names them.
        """
        with writing(self._directory):
            for earlier in self._directory.glob("events.out.tfevents.*"):
                earlier.unlink()
        run = self._file(".")
        run.add(0, summaries.text("config.gin", "\n".join("    " + line for line in text.splitlines())))
        for summary in _hparams(hyperparameters, compared):
            run.add(0, summary)
        self.flush()

    def outcome(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes the metrics that runs are compared by, once more, where TensorBoard finds them: by the config."""
        for tag, value in metrics.items():
            self._file(".").add(step, summaries.scalar(tag, value))
        self.flush()

    def scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes meta-training scalars."""
        for tag, value in scalars.items():
            self._file("train").add(step, summaries.scalar(f"{META_TRAIN}/{tag}", value))

    def plots(self, step: int, curves: Mapping[str, np.ndarray], params: Any) -> None:
        """Writes curves over a lifetime [T], mean over the population, and histograms of the meta-parameters.

        A curve is named `metric` or, in a mixture, `metric/DISTRIBUTION`: those of one metric share an image.
        """
        file = self._file("train")
        by_metric: dict[str, dict[str, np.ndarray]] = {}
        for name, curve in curves.items():
            metric, _, distribution = name.partition("/")
            by_metric.setdefault(metric, {})[distribution or "population"] = curve
        for index, (metric, lines) in enumerate(by_metric.items()):
            tag = f"{META_TRAIN}/{metric if index else LEARNING_CURVE}"
            measure = Measure(title(metric.removesuffix("_curve")))
            file.add(step, _image(tag, _learning_curves(lines, f"meta-step {step}", measure)))
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            values = np.clip(np.asarray(leaf, np.float64), HISTOGRAM_BINS[0], HISTOGRAM_BINS[-1])
            file.add(step, summaries.histogram(f"parameters/{name}", values, HISTOGRAM_BINS))

    def scores(self, step: int, evaluation: Evaluation) -> None:
        """Writes the mean scores of one evaluator, and its rivals' beside."""
        summary = evaluation.summary
        for prefix, row in {"": summary, **{f"{key}/": row for key, row in summary["baselines"].items()}}.items():
            for score in evaluation.scores:
                tag = f"{META_TEST}/{evaluation.name}/{prefix}{score}"
                self._file("eval").add(step, summaries.scalar(tag, row[score]["mean"]))

    def evaluation(self, step: int, evaluation: Evaluation) -> None:
        """Writes the outcome of one evaluator: its scores, and the means of its curves as images."""
        self.scores(step, evaluation)
        for index, (name, curve) in enumerate(evaluation.curves.items()):
            others = {r.label: r.curves[name] for r in evaluation.rivals.values() if name in r.curves}
            lines = {"learned algorithm": curve, **others}
            means = {label: np.atleast_2d(values).mean(axis=0) for label, values in lines.items()}
            tag = f"{META_TEST}/{evaluation.name}/{LEARNING_CURVE}" + (f"_{name}" if index else "")
            image = _image(tag, _learning_curves(means, evaluation.name, evaluation.measure(name)))
            self._file("eval").add(step, image)
        self.flush()

    def flush(self) -> None:
        """Pushes everything to disk."""
        for file in self._files.values():
            file.flush()

    def close(self) -> None:
        """Closes the event files."""
        for file in self._files.values():
            file.close()


def compared_by(metrics: Sequence[Mapping[str, Any]], evaluations: Mapping[str, Any]) -> dict[str, float]:
    """What runs are compared by: the end of meta-training, and the headline of each evaluation.

    Args:
      metrics: the entries of `metrics.jsonl`.
      evaluations: summaries by name.

    Returns:
      Values by tag, NaN where they are not finite.
    """
    last = metrics[-1] if metrics else {}
    trained = {f"{META_TRAIN}/{name}": last[name] for name in of_the_objective(last)} if last else {}
    tested = {name: Evaluated(name, content) for name, content in evaluations.items()}
    headlines = {f"{META_TEST}/{n}/{s.headline}": s.content[s.headline]["mean"] for n, s in tested.items()}
    return {tag: float("nan") if value is None else value for tag, value in {**trained, **headlines}.items()}


def _hparams(hyperparameters: Mapping[str, Any], metrics: Iterable[str] | None) -> Iterable[Summary]:
    """The summaries that make a run a row of TensorBoard's HPARAMS tab; metrics are tags of the same event file."""
    start = plugin_hparams_pb2.SessionStartInfo()
    for name, value in hyperparameters.items():
        if is_number(value):
            start.hparams[name].number_value = value
        else:
            start.hparams[name].string_value = str(value)
    contents = {
        "_hparams_/session_start_info": plugin_hparams_pb2.HParamsPluginData(session_start_info=start, version=0)
    }
    if metrics is not None:
        experiment = api_pb2.Experiment(
            hparam_infos=[
                api_pb2.HParamInfo(
                    name=name,
                    type=api_pb2.DATA_TYPE_FLOAT64 if is_number(value) else api_pb2.DATA_TYPE_STRING,
                )
                for name, value in hyperparameters.items()
            ],
            metric_infos=[api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in metrics],
        )
        contents["_hparams_/experiment"] = plugin_hparams_pb2.HParamsPluginData(experiment=experiment, version=0)
    for tag, content in contents.items():
        plugin = summary_pb2.SummaryMetadata.PluginData(plugin_name=HPARAMS_PLUGIN, content=content.SerializeToString())
        yield Summary(value=[Summary.Value(tag=tag, metadata=summary_pb2.SummaryMetadata(plugin_data=plugin))])


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _learning_curves(curves: Mapping[str, np.ndarray], title: str, measure: Measure) -> Figure:
    """Values against the steps of a lifetime, smoothed over a twentieth of it."""
    from matplotlib.figure import Figure  # here, since it takes a third of a second

    figure = Figure(figsize=(5, 3), dpi=100)
    axes = figure.add_axes((0.14, 0.16, 0.83, 0.75))  # fixed: finding a layout takes longer than drawing
    for name, curve in curves.items():
        width = max(1, len(curve) // 20)
        smooth = np.convolve(curve, np.ones(width) / width, mode="valid")
        axes.plot(np.arange(len(smooth)) + width, smooth, label=name)
    axes.set(xlabel="steps of a lifetime", ylabel=measure.title, title=title)
    if measure.limits:
        axes.set_ylim(measure.limits)
    axes.grid(alpha=0.3)
    axes.legend(loc="best", frameon=False)
    return figure


def _image(tag: str, figure: Figure) -> Summary:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return summaries.image(tag, np.asarray(canvas.buffer_rgba())[..., :3].copy(), dataformats="HWC")
