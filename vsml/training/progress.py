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
from vsml.metrics import of_the_objective, title
from vsml.runs.directory import RunDirectory
from vsml.training.interim import InterimEvaluations
from vsml.training.parallel import Running, fetch_replicated
from vsml.training.writers import MetricsFile, TensorBoard

SHOWN_METRICS = 3
"""In the progress bar, which is one line."""


class Progress:
    """Written by one process for all."""

    def __init__(
        self,
        experiment: Experiment,
        writers: tuple[MetricsFile, TensorBoard, tqdm],
        interim: InterimEvaluations,
        start: int,
        seconds: float,
    ):
        """Goes on after `start` meta-steps, which took `seconds`; use `follow`."""
        self._experiment, self._interim = experiment, interim
        self._metrics_file, self.board, self._bar = writers
        self._started = time.monotonic() - seconds
        self._logged_at, self._logged_step = time.monotonic(), start
        self.evaluating_seconds = 0.0

    def tell(self, done: int, running: Running) -> None:
        """Tells of the meta-step that `running` has just taken, as far as its turn has come."""
        self._bar.update()
        last = done == self._experiment.steps
        log = done % self._experiment.log_every == 0 or last
        plot = done % self._experiment.plot_every == 0 or last
        if not (log or plot):
            return
        values = running.metrics()
        if log:
            self._log(done, {name: _number(value) for name, value in values.items() if value.ndim == 0})
        if plot:
            curves = {name: value for name, value in values.items() if value.ndim == 1}
            self.board.plots(done, curves, fetch_replicated(running.state.params))

    def evaluate(self, done: int, running: Running) -> None:
        """Evaluates the parameters of now if it is time to; this counts as no time of meta-training."""
        if not self._interim.due(done):
            return
        params = fetch_replicated(running.state.params)
        started = time.monotonic()
        self._interim.run(done, params)
        spent = time.monotonic() - started
        self.evaluating_seconds += spent
        self._started += spent
        self._logged_at += spent
        if not self._bar.disable:
            self._bar.start_t += spent
            self._bar.last_print_t += spent

    def _log(self, done: int, scalars: dict[str, float | int]) -> None:
        self._metrics_file.write(done, scalars)
        now = time.monotonic()
        rate = (done - self._logged_step) * self._experiment.population / (now - self._logged_at)
        self._logged_at, self._logged_step = now, done
        self.board.scalars(done, {**scalars, "lifetimes_per_second": rate, "seconds": now - self._started})
        shown = [f"{title(name)} {scalars[name]:.3f}" for name in of_the_objective(scalars)[:SHOWN_METRICS]]
        skipped = f", {scalars['skipped']} non-finite steps skipped" if scalars["skipped"] else ""
        self._bar.set_postfix_str(f"{' '.join(shown)} {rate:.3g} lifetimes/s{skipped}", refresh=False)


@contextmanager
def follow(run: RunDirectory, config: Config, experiment: Experiment, start: int, seconds: float) -> Iterator[Progress]:
    """Opens what is written to, drops what came after the checkpoint of `start`, and closes it at the end."""
    with (
        closing(MetricsFile(run.metrics, resume_step=start)) as metrics_file,
        closing(TensorBoard(run.path, resume_step=start)) as board,
        closing(InterimEvaluations(experiment, run.interim, board, start)) as interim,
        _progress_bar(start, experiment.steps) as bar,
    ):
        board.config(config.text, run.hyperparameters(config))
        yield Progress(experiment, (metrics_file, board, bar), interim, start, seconds)


def _progress_bar(start: int, steps: int) -> tqdm:
    """Redrawn where somebody watches, a line now and then in a log."""
    seconds = 0.5 if sys.stderr.isatty() else 30
    return tqdm(total=steps, initial=start, unit="step", dynamic_ncols=True, mininterval=seconds)


def _number(value: Any) -> float | int:
    number = value.item()
    return number if isinstance(number, int) else float(number)
