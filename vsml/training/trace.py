"""Meta-steps traced by jax.profiler, for TensorBoard's PROFILE tab (extra `profile`): what each operation costs.

plugins/profile/steps_FIRST_LAST/process_INDEX.xplane.pb    one session of the tab, with one host per process

Every process traces itself. The trainer waits for each traced meta-step; tracing does not change the results.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

from vsml.runs.files import writing

SESSIONS = Path("plugins", "profile")
"""Below the run directory; the tab finds `plugins/profile` in any folder below its --logdir."""


class Trace:
    """The trace of some meta-steps of one run. Use as `with closing(Trace(...)) as trace`."""

    def __init__(self, steps: tuple[int, int] | None, directory: Path, start: int):
        """Traces meta-steps `steps`, counted from 1 and both included, of a run that goes on after `start` of them."""
        first, self.last = steps or (0, 0)
        self.first = max(first, start + 1)
        self.missed = "" if steps is None or start < first else _missed(first, self.last, start)
        self._directory = directory
        self._process = jax.process_index()
        self._private = directory / f".trace-{self._process}"
        self._traced = 0  # the last traced meta-step, 0 while nothing is traced

    @contextmanager
    def step(self, done: int) -> Iterator[None]:
        """Use around the meta-step `done`: traces it if it is one of those."""
        if not self.first <= done <= self.last:
            yield
            return
        if not self._traced:
            with writing(self._private):
                self._private.mkdir(parents=True, exist_ok=True)
            jax.profiler.start_trace(self._private)
        self._traced = done
        with jax.profiler.StepTraceAnnotation("meta_step", step_num=done):
            yield
        if done == self.last:
            self.close()

    @property
    def under_way(self) -> bool:
        """Whether meta-steps are being traced; each then has to be waited for, since devices run asynchronously."""
        return self._traced > 0

    def close(self) -> None:
        """Writes what was traced so far. Raises `UserError` where it cannot be written."""
        if not self._traced:
            return
        session = self._directory / SESSIONS / f"steps_{self.first}_{self._traced}"
        self._traced = 0
        with writing(session):
            try:
                jax.profiler.stop_trace()
                session.mkdir(parents=True, exist_ok=True)
                for found in self._private.rglob("*.xplane.pb"):
                    os.replace(found, session / f"process_{self._process}.xplane.pb")
            finally:
                shutil.rmtree(self._private, ignore_errors=True)


def _missed(first: int, last: int, start: int) -> str:
    """The message of a resumed run that has passed some of these meta-steps already."""
    rest = f"{start + 1} to {last} are traced" if start < last else "nothing is traced"
    return f"train.profile_steps: meta-steps {first} to {min(start, last)} are done already; {rest}"
