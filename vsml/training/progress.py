"""What a run tells of meta-training while it is under way: metrics.jsonl, TensorBoard, a progress bar."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from tqdm import tqdm

from vsml.config import Config
from vsml.experiment import Experiment
from vsml.runs.directory import RunDirectory
from vsml.training.meta_step import ACCURACY_CURVE
from vsml.training.parallel import Running, fetch_replicated
from vsml.training.writers import MetricsFile, TensorBoard
from vsml.types import Metrics


class Progress:
    """Written by one process for all."""

    def __init__(
        self,
        experiment: Experiment,
        writers: tuple[MetricsFile, TensorBoard, tqdm],
        start: int,
        seconds: float,
    ):
        """Goes on after `start` meta-steps, which took `seconds`; use `follow`."""
        self._experiment = experiment
        self._metrics_file, self.board, self._bar = writers
        self._started = time.monotonic() - seconds
        self._logged_at, self._logged_step = time.monotonic(), start

    def tell(self, done: int, running: Running) -> None:
        """Tells of the meta-step that `running` has just taken, as far as its turn has come."""
        self._bar.update()
        last = done == self._experiment.steps
        if done % self._experiment.log_every == 0 or last:
            self._log(done, running.metrics())
        if done % self._experiment.plot_every == 0 or last:
            curves = {name: curve for name, curve in running.metrics().items() if name.startswith(ACCURACY_CURVE)}
            self.board.plots(done, curves, fetch_replicated(running.state.params))

    def _log(self, done: int, metrics: Metrics) -> None:
        scalars = {name: _number(value) for name, value in metrics.items() if not name.startswith(ACCURACY_CURVE)}
        self._metrics_file.write(done, scalars)
        now = time.monotonic()
        rate = (done - self._logged_step) * self._experiment.population / (now - self._logged_at)
        self._logged_at, self._logged_step = now, done
        self.board.scalars(done, {**scalars, "lifetimes_per_second": rate, "seconds": now - self._started})
        skipped = f", {scalars['skipped']} non-finite steps skipped" if scalars["skipped"] else ""
        self._bar.set_postfix_str(
            f"loss {scalars['loss']:.3f} accuracy {scalars['accuracy']:.3f} {rate:.3g} lifetimes/s{skipped}",
            refresh=False,
        )


@contextmanager
def follow(run: RunDirectory, config: Config, experiment: Experiment, start: int, seconds: float) -> Iterator[Progress]:
    """Opens what is written to, drops what came after the checkpoint of `start`, and closes it at the end."""
    with (
        closing(MetricsFile(run.metrics, resume_step=start)) as metrics_file,
        closing(TensorBoard(run.path, resume_step=start)) as board,
        _progress_bar(start, experiment.steps) as bar,
    ):
        board.config(config.text, run.hyperparameters(config), [evaluator.name for evaluator in experiment.evaluators])
        yield Progress(experiment, (metrics_file, board, bar), start, seconds)


def _progress_bar(start: int, steps: int) -> tqdm:
    """Redrawn where somebody watches, a line now and then in a log."""
    seconds = 0.5 if sys.stderr.isatty() else 30
    return tqdm(total=steps, initial=start, unit="step", dynamic_ncols=True, mininterval=seconds)


def _number(value: Any) -> float | int:
    number = value.item()
    return number if isinstance(number, int) else float(number)
