"""What a run reports during meta-training: metrics.jsonl, TensorBoard, a line on the terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

from vsml.config import Config
from vsml.evaluation.telling import listening
from vsml.experiment import Experiment
from vsml.metrics import of_the_objective, title
from vsml.runs.directory import RunDirectory
from vsml.training.display import display, duration, fitted, tell_evaluation
from vsml.training.interim import InterimEvaluations
from vsml.training.parallel import Running, fetch_replicated
from vsml.training.writers import MetricsFile, TensorBoard

SHOWN_METRICS = 3
"""Most metrics in the line on the terminal."""
COMPILING = "compiling the first meta-step"


class Progress:
    """Logs, plots, shows and evaluates during meta-training; one process does so for all."""

    def __init__(
        self,
        experiment: Experiment,
        writers: tuple[MetricsFile, TensorBoard],
        interim: InterimEvaluations,
        start: int,
        seconds: float,
    ):
        """Continues after `start` meta-steps, which took `seconds`; made by `follow`."""
        self._experiment, self._interim = experiment, interim
        self._metrics_file, self.board = writers
        self._started = time.monotonic() - seconds
        self._logged_at, self._logged_step = time.monotonic(), start
        self._pace = Pace(experiment.steps)
        self._scalars: dict[str, float | int] = {}
        self._rate: float | None = None
        self.evaluating_seconds = 0.0

    def tell(self, done: int, running: Running) -> None:
        """Logs, plots and shows the meta-step that `running` has just taken, each only when it is due."""
        self._pace.took(done)
        last = done == self._experiment.steps
        log = done % self._experiment.log_every == 0 or last
        plot = done % self._experiment.plot_every == 0 or last
        if log or plot:
            values = running.metrics()
            if log:
                self._log(done, {name: _number(value) for name, value in values.items() if value.ndim == 0})
            if plot:
                curves = {name: value for name, value in values.items() if value.ndim == 1}
                self.board.plots(done, curves, fetch_replicated(running.state.params))
        self._show(at_once=last)

    def _show(self, at_once: bool) -> None:
        if at_once or display.due:
            display.show(self._pace.line(self._scalars, self._rate, display.width), at_once=at_once)

    def evaluate(self, done: int, running: Running) -> None:
        """Evaluates the current parameters if that is due; the time does not count as meta-training."""
        if not self._interim.due(done):
            return
        params = fetch_replicated(running.state.params)
        started = time.monotonic()
        with listening(tell_evaluation):
            self._interim.run(done, params)
        spent = time.monotonic() - started
        self.evaluating_seconds += spent
        self._started += spent
        self._logged_at += spent
        self._pace.pause(spent)
        self._show(at_once=display.live)

    def _log(self, done: int, scalars: dict[str, float | int]) -> None:
        self._metrics_file.write(done, scalars)
        now = time.monotonic()
        rate = (done - self._logged_step) * self._experiment.population / (now - self._logged_at)
        self._logged_at, self._logged_step = now, done
        self.board.scalars(done, {**scalars, "lifetimes_per_second": rate, "seconds": now - self._started})
        self._scalars, self._rate = scalars, rate


class Pace:
    """How far meta-training is, and how long the rest will take; the first meta-step of a process also compiles."""

    def __init__(self, steps: int):
        """For a run of `steps` meta-steps in all."""
        self._steps, self._done = steps, 0
        self._first: tuple[int, float] | None = None  # the first one here, and when it was taken

    def took(self, done: int) -> None:
        """Notes that `done` meta-steps are done now."""
        self._done = done
        self._first = self._first or (done, time.monotonic())

    def pause(self, seconds: float) -> None:
        """Leaves out the last `seconds`, in which no meta-step was taken."""
        if self._first:
            self._first = (self._first[0], self._first[1] + seconds)

    def line(self, scalars: Mapping[str, float], rate: float | None, width: int) -> str:
        """`step 310/700  44%`, then the newest scalars and lifetimes per second, as soon as there are some."""
        shown = of_the_objective(scalars)[:SHOWN_METRICS] if scalars else []
        numbers = [(title(name), _short(scalars[name])) for name in shown]
        left = self._left()
        tail = ([f"{left} left"] if left else []) + ([] if rate is None else [f"{_short(rate, 1)} lifetimes/s"])
        share = self._done / self._steps
        skipped = f"  {scalars['skipped']} skipped" if scalars.get("skipped") else ""  # not finite
        head = f"step {self._done}/{self._steps} {int(100 * share):3}%{skipped}"
        return fitted(head, numbers, tail, width, share)

    def _left(self) -> str:
        if self._first is None or self._done in (self._first[0], self._steps):
            return ""
        first, at = self._first
        return duration((time.monotonic() - at) / (self._done - first) * (self._steps - self._done))


@contextmanager
def follow(run: RunDirectory, config: Config, experiment: Experiment, start: int, seconds: float) -> Iterator[Progress]:
    """Opens the output files, drops what was written after meta-step `start`, and closes them at the end."""
    with (
        closing(MetricsFile(run.metrics, resume_step=start)) as metrics_file,
        closing(TensorBoard(run.path, resume_step=start)) as board,
        closing(InterimEvaluations(experiment, run.interim, board, start)) as interim,
    ):
        board.config(config.text, run.hyperparameters(config))
        display.show(COMPILING, at_once=True)
        try:
            yield Progress(experiment, (metrics_file, board), interim, start, seconds)
        finally:
            display.keep()


def _short(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if abs(value) < 10_000 else f"{value:.3g}"


def _number(value: Any) -> float | int:
    number = value.item()
    return number if isinstance(number, int) else float(number)
