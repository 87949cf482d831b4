"""All points of a sweep on this machine: a process per point, `jobs` at once, each with its share of cores and GPUs.

With a process per point, the memory and the failure of one point do not affect the others. All points share a folder of
compiled programs: points that differ only in their seed use the same program, which is compiled once.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import jax

from vsml.errors import UserError, as_out_of_memory
from vsml.hardware import drop_oldest_compiled
from vsml.runs.directory import RunDirectory
from vsml.runs.files import write_whole, writing
from vsml.runs.lock import refuse_where_occupied
from vsml.runs.names import FAILURE, LOG
from vsml.runs.saved import newest_step
from vsml.sweep.points import Point, Sweep
from vsml.sweep.runs import check_earlier, record, status
from vsml.sweep.watching import progress, shown_name
from vsml.training.display import display
from vsml.training.distributed import say
from vsml.training.dry_run import check_evaluators, check_meta_parameters, shapes_of_learner
from vsml.training.interruption import Interrupted, Interruption, catch_interruption, name_of
from vsml.training.starting import read_start

COMMAND = (sys.executable, "-m", "vsml", "sweep")
COMPILED = ".compiled"
POLL_SECONDS = 0.1
GPU_SHARE = 0.9
"""Of an accelerator's memory, for all processes on it."""


class Failed(UserError):
    """Some points of a sweep failed; all others are done."""

    exit_code = 1


@dataclass
class Worker:
    """Runs one process at a time, on its own share of the machine."""

    environment: Mapping[str, str]
    cores: frozenset[int]
    point: Point | None = None
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0  # in seconds since the epoch
    log_from: int = 0  # bytes of the point's log from before


@dataclass
class _Tally:
    total: int
    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)


def run_all(sweep: Sweep, directory: Path, jobs: int = 1) -> None:
    """Runs every point that is not finished yet, `jobs` at a time.

    Args:
      sweep: as `load` reads it.
      directory: of the sweep.
      jobs: processes at once.

    Raises:
      UserError: for a point that cannot run, before the first one runs; `Interrupted` after a signal, with the state of
        all points saved; `Failed` in the end if points failed, which never stops the others.
    """
    if jobs < 1:
        raise UserError(f"--jobs {jobs}: set it to 1 or more")
    jax.config.update("jax_platforms", "cpu")  # the accelerators are for the points
    for refused in sweep.refused:
        say(f"left out {refused.name}: {refused.reason}")
    with _lock(directory):
        check_earlier(sweep.points, directory, sweep.extend)
        waiting = [point for point in sweep.points if status(point, directory)[0] != "finished"]
        _check(waiting, directory)
        record(sweep, directory)
        drop_oldest_compiled(directory / COMPILED)
        tally = _Tally(len(sweep.points), len(sweep.points) - len(waiting))
        if tally.done:
            say(f"{tally.done} of {tally.total} points are finished already")
        with catch_interruption() as interruption:
            _work(sweep, directory, waiting, _workers(min(jobs, max(1, len(waiting))), directory), tally, interruption)
    if tally.failed:
        for name, reason in tally.failed.items():
            say(f"failed: {name}: {reason} ({directory / name / LOG})")
        raise Failed(
            f"{len(tally.failed)} of {tally.total} points failed; the same command runs them again, and "
            f"`vsml report {directory}` shows the others"
        )
    say(f"all {tally.total} points are finished; `vsml report {directory}` compares them")


def _check(points: list[Point], directory: Path) -> None:
    """Builds every point from shapes alone: a missing file or parts that do not fit show before anything runs."""
    known = set()
    for point in points:
        refuse_where_occupied(point.run_directory(directory), say)
        experiment = point.config.build()
        try:
            shapes = (experiment.learner, experiment.learner_in_use, experiment.specs)
            if shapes not in known:
                check_meta_parameters(experiment)
                shapes_of_learner(experiment.learner, experiment.specs)
            known.add(shapes)
            if newest_step(RunDirectory(point.run_directory(directory)).checkpoints) is None:
                read_start(experiment)
            check_evaluators(experiment)
        except (UserError, TypeError, ValueError, MemoryError) as error:
            raise UserError(f"point {point.name}: {as_out_of_memory(error) or error}") from None


@contextmanager
def _lock(directory: Path) -> Iterator[IO[str]]:
    """Keeps a second sweep out of a directory; points inherit it, so that those of a killed sweep still hold it."""
    path = directory / ".lock"
    with writing(path):
        directory.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"{directory}: a sweep is running here: wait for its end, or choose another --sweep_dir"
            ) from None
        os.set_inheritable(file.fileno(), True)
        yield file


def _workers(jobs: int, directory: Path) -> list[Worker]:
    """Shares out cores and accelerators; where there are fewer of them than jobs, several share one."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    count = len(cores) or os.cpu_count() or 1
    gpus = _accelerators()
    workers = []
    for index in range(jobs):
        defaults = {
            "JAX_COMPILATION_CACHE_DIR": str((directory / COMPILED).absolute()),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        own = {}
        if not cores:  # no affinity on this system
            defaults["JAX_NUM_CPU_DEVICES"] = str(max(1, count // jobs))
        if gpus and jobs > 1:
            own["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[index::jobs] or [gpus[index % len(gpus)]])
            defaults["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{GPU_SHARE / -(-jobs // len(gpus)):.2f}"
        share = cores[index::jobs] or cores[index % count : index % count + 1]
        workers.append(Worker({**defaults, **os.environ, **own}, frozenset(share)))
    return workers


def _accelerators() -> list[str]:
    """The NVIDIA GPUs this process may use, without touching them."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [gpu for gpu in chosen.split(",") if gpu]
    found = Path("/proc/driver/nvidia/gpus")
    return [str(index) for index in range(len(list(found.iterdir())))] if found.is_dir() else []


def _work(
    sweep: Sweep, directory: Path, waiting: list[Point], workers: list[Worker], tally: _Tally, stop: Interruption
) -> None:
    """Keeps every worker busy until nothing waits; stops all of them, and waits for them, when asked to."""
    told = False
    try:
        while waiting or any(worker.process for worker in workers):
            for worker in workers:
                if worker.process is not None and worker.process.poll() is not None:
                    _end(worker, directory, tally, told)
                if worker.process is None and waiting and stop.signal_number is None:
                    _start(worker, sweep, waiting.pop(0), directory)
            if stop.signal_number is not None:
                if not told:
                    running = [worker.process for worker in workers if worker.process]
                    say(f"stopping {len(running)} points, which save their state first; a second signal ends them now")
                    for process in running:
                        process.send_signal(signal.SIGTERM)
                told = True
                if not any(worker.process for worker in workers):
                    raise Interrupted(
                        f"stopped by {name_of(stop.signal_number)} with {tally.done} of {tally.total} points "
                        "finished; the others have saved their state: run the same command again to go on",
                        stop.signal_number,
                    )
            _show(workers, directory)
            time.sleep(POLL_SECONDS)
    finally:
        display.close()
        for worker in workers:
            if worker.process is not None:
                worker.process.kill()
                worker.process.wait()


def _show(workers: list[Worker], directory: Path) -> None:
    """A line for each point that runs."""
    running = [(worker, worker.point) for worker in workers if worker.point is not None]
    if not running or not display.due:
        return
    names = [shown_name(point.name, display.width // 2) for _, point in running]
    longest = max(map(len, names))
    lines = []
    for name, (worker, point) in zip(names, running, strict=True):
        steps, width = point.config.json["train"]["steps"], display.width - longest - 2
        run = point.run_directory(directory)
        lines.append(f"{name:<{longest}}  {progress(run, steps, worker.started, worker.log_from, width)}")
    display.show(*lines)


def _start(worker: Worker, sweep: Sweep, point: Point, directory: Path) -> None:
    run = point.run_directory(directory)
    worker.started = time.time()
    with writing(run):
        run.mkdir(parents=True, exist_ok=True)
        (run / FAILURE).unlink(missing_ok=True)
        log = (run / LOG).open("ab")
        worker.log_from = log.tell()
    with log:
        worker.process = subprocess.Popen(
            [*COMMAND, sweep.file, *sweep.words, "--sweep_dir", str(directory), "--index", str(point.index)],
            env=dict(worker.environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            close_fds=False,  # it inherits the lock
            start_new_session=True,  # Ctrl-C reaches only this process, which passes it on once
        )
    if worker.cores:
        os.sched_setaffinity(worker.process.pid, worker.cores)  # before it starts any thread
    worker.point = point


def _end(worker: Worker, directory: Path, tally: _Tally, told: bool) -> None:
    """Takes note of how a point ended."""
    assert worker.process is not None
    assert worker.point is not None
    point, code = worker.point, worker.process.returncode
    worker.process = worker.point = None
    stopped = told and code in (-signal.SIGTERM, 128 + signal.SIGTERM, 130)
    if code == 0:
        tally.done += 1
        outcome = f"finished in {time.time() - worker.started:.0f} s"
    elif stopped:
        outcome = "stopped"
    else:
        reason = tally.failed[point.name] = _reason(point.run_directory(directory), code)
        outcome = f"failed: {reason}"
    say(f"[{tally.done + len(tally.failed)}/{tally.total}] {point.name}: {outcome}")


def _reason(run: Path, code: int) -> str:
    """Why a point failed, in one line; written down where the point could not do so itself."""
    failure = run / FAILURE
    if not failure.exists():
        if code < 0:
            number = signal.Signals(-code).name
            hint = ", perhaps because memory ran out: try fewer --jobs" if -code == signal.SIGKILL else ""
            reason = f"ended by {number}{hint}"
        else:
            lines = (run / LOG).read_text(errors="replace").strip().splitlines() or [f"exit code {code}"]
            reason = lines[-1].rpartition("\r")[2].removeprefix("vsml: ").strip()
        write_whole(failure, f"{reason}\n")
    return failure.read_text().strip()
