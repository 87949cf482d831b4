"""Several processes of one run: how they find each other, make the same decisions, and end when one is lost.

All of them run the same program on their own devices. Process 0 prints and writes for all; checkpoints are written by
all. A process that waits for one that has ended would wait forever. Therefore

- a check that may fail on one of them is made by `together`, which fails on all of them;
- what they were asked for is compared by `check_alike` before anything is computed;
- when to stop is decided by all of them at the same meta-step (`Parallel.largest`);
- a process that fails alone is ended at once by `all_or_none`; the others notice at their next collective operation.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from vsml.errors import UserError, as_out_of_memory
from vsml.training.display import display

Result = TypeVar("Result")

MEETING_SECONDS = 300
"""Time for all processes to reach the coordinator: nodes of a cluster may start minutes apart."""
HEARTBEAT_SECONDS = 60
"""A process that is silent for so long is lost. A killed one is noticed much sooner, by its broken connections."""
LOOPBACK = ("127.0.0.1", "localhost")
LOST = 3
"""Exit code of a process that has lost another process."""
LONGEST_MESSAGE = 4000
"""Most bytes of an error that processes send each other."""
_SIGNS_OF_A_LOSS = re.compile(
    r"gloo|nccl|connection|peer|socket|heartbeat|barrier|coordination|UNAVAILABLE|ABORTED|DEADLINE", re.IGNORECASE
)


@dataclass(frozen=True)
class Cluster:
    """Where the processes of a run meet, and which of them this is; all None where Slurm, a TPU pod or MPI provides it.

    Attributes:
      coordinator: HOST:PORT on which process 0 listens, as the others reach it.
      num_processes: how many there are.
      process_index: 0 to num_processes - 1.
    """

    coordinator: str | None = None
    num_processes: int | None = None
    process_index: int | None = None

    def __post_init__(self) -> None:
        given = [value is not None for value in (self.coordinator, self.num_processes, self.process_index)]
        if any(given) and not all(given):
            raise UserError(
                "--coordinator, --num_processes and --process_index go together: give all three, or none where Slurm, "
                "a TPU pod or MPI tells them"
            )
        if self.coordinator is None or self.num_processes is None or self.process_index is None:
            return
        if not re.fullmatch(r".+:\d+", self.coordinator):
            raise UserError(f"--coordinator {self.coordinator}: give the HOST:PORT on which process 0 is to listen")
        if not 0 <= self.process_index < self.num_processes:
            raise UserError(
                f"--process_index {self.process_index} of {self.num_processes} processes: give 0 to "
                f"{self.num_processes - 1}, each to one process"
            )


class _Processes:
    """Which process this is. JAX knows it too, but asking it starts the devices, and it forgets after a shutdown."""

    index = 0
    count = 1


def is_main() -> bool:
    """Whether this process prints and writes for all."""
    return _Processes.index == 0


def say(message: str) -> None:
    """Prints a message on standard error, once for all processes; standard output is for results."""
    if is_main():
        display.say(message)


@contextmanager
def joined(cluster: Cluster | None) -> Iterator[None]:
    """Within the block this process is one of several; None means a single process. Enter before JAX is used."""
    if cluster is None:
        yield
        return
    _keep_standard_output_for_results()
    _meet(cluster)
    with all_or_none():
        yield


def _keep_standard_output_for_results() -> None:
    """Native libraries (Gloo, NCCL) print to file descriptor 1, so this redirects it to standard error."""
    sys.stdout.flush()
    try:
        kept = os.dup(1)
        os.dup2(2, 1)
    except OSError:  # closed
        return
    sys.stdout = os.fdopen(kept, "w", buffering=1)


def _meet(cluster: Cluster) -> None:
    """Waits for all processes. Raises `UserError` where nothing says where they meet."""
    where = cluster.coordinator
    on_this_machine = where is not None and where.rsplit(":", 1)[0] in LOOPBACK
    # At its own timeout JAX would abort with a native stack trace.
    patience = threading.Timer(MEETING_SECONDS, _give_up, [cluster])
    patience.daemon = True
    patience.start()
    try:
        jax.distributed.initialize(
            where,
            cluster.num_processes,
            cluster.process_index,
            cluster_detection_method=None if where is None else "deactivate",
            # By default it would listen on all interfaces.
            coordinator_bind_address=where if on_this_machine else None,
            initialization_timeout=MEETING_SECONDS + 60,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        cause = " ".join(str(error).split())[:200]
        if where is None:
            raise UserError(
                f"--distributed: neither Slurm nor a TPU pod nor MPI says which processes there are ({cause}): give "
                "--coordinator HOST:PORT --num_processes N --process_index I"
            ) from error
        raise UserError(f"--coordinator {where}: {cause}: choose another port or host") from error
    finally:
        patience.cancel()
    _Processes.index, _Processes.count = jax.process_index(), jax.process_count()


def _give_up(cluster: Cluster) -> None:
    who = f"process {cluster.process_index} of {cluster.num_processes}" if cluster.coordinator else "a process"
    where = cluster.coordinator or "the coordinator that the cluster names"
    _end(
        f"{who} has waited {MEETING_SECONDS} s for all to meet at {where}: start the missing ones, or see that they "
        "reach it and have the same --num_processes",
        LOST,
    )


def leave_cluster() -> bool:
    """Leaves the other processes: what follows is on this process's own devices.

    Returns:
      Whether this process goes on; of several only process 0 does.
    """
    if _Processes.count > 1:
        jax.distributed.shutdown()
        _Processes.count = 1
    return is_main()


def together(action: Callable[[], Result]) -> Result:
    """Does the same on every process; where one of them fails, all fail with its `UserError`."""
    if _Processes.count == 1:
        return action()
    result, failure = None, ""
    try:
        result = action()
    except UserError as error:
        failure = str(error) or type(error).__name__
    failures = _tell_all(failure)
    for index, message in enumerate(failures):
        if message:
            everybody = all(message == other for other in failures)
            failed = UserError(message if everybody else f"process {index} of {len(failures)}: {message}")
            failed.alike = True
            raise failed
    return result  # pyright: ignore[reportReturnType]  (not None: nothing has failed)


def check_shared(directory: Path) -> None:
    """Raises `UserError` on all processes where one of them does not see what process 0 writes to `directory`."""
    if _Processes.count == 1:
        return
    probe = directory / ".shared"

    def look() -> None:
        if not probe.exists():
            raise UserError(
                f"{directory}: not on a file system that all processes share: choose a --run_dir that is, or make it so"
            )

    together(lambda: probe.touch() if is_main() else None)
    try:
        together(look)
    finally:
        if is_main():
            probe.unlink(missing_ok=True)


def check_alike(settings: Mapping[str, Any], mend: str) -> None:
    """Raises `UserError` on all processes where their settings differ, with the first that differ.

    Args:
      settings: by name; plain data.
      mend: what to do about it.
    """
    if _Processes.count == 1:
        return
    text = json.dumps(settings)
    if len(set(_tell_all(hashlib.sha256(text.encode()).hexdigest()))) == 1:
        return
    longest = max(map(int, _tell_all(str(len(text.encode())))))
    first, *others = map(json.loads, _tell_all(text, longest))
    index, other = next((index, other) for index, other in enumerate(others, 1) if other != first)
    keys = [key for key in {**first, **other} if (key in first, first.get(key)) != (key in other, other.get(key))]
    unlike = [f"{key} ({_shown(first, key)} in process 0, {_shown(other, key)} in process {index})" for key in keys[:4]]
    more = f" and {len(keys) - 4} more" if len(keys) > 4 else ""
    failed = UserError(f"not the same in all processes of this run: {', '.join(unlike)}{more}: {mend}")
    failed.alike = True
    raise failed


def _shown(settings: Mapping[str, Any], key: str) -> str:
    text = repr(settings[key]) if key in settings else "nothing"
    return text if len(text) <= 60 else f"{text[:28]} ... {text[-27:]}"


def _tell_all(message: str, longest: int = LONGEST_MESSAGE) -> list[str]:
    """Every process's message, cut to so many bytes."""
    padded = np.zeros(longest, np.uint8)
    encoded = np.frombuffer(message.encode()[:longest], np.uint8)
    padded[: len(encoded)] = encoded
    everyones = np.asarray(multihost_utils.process_allgather(padded)).reshape(_Processes.count, longest)
    return [row.tobytes().rstrip(b"\0").decode(errors="ignore") for row in everyones]


@contextmanager
def all_or_none() -> Iterator[None]:
    """Within the block, a process that fails alone ends at once, before anything waits for the others.

    Errors that all processes raise alike (`UserError.alike`) pass.
    """
    try:
        yield
    except BaseException as error:
        if _Processes.count == 1 or (isinstance(error, UserError) and error.alike):
            raise
        _end_alone(error)


def _end_alone(error: BaseException) -> NoReturn:
    who = f"process {_Processes.index} of {_Processes.count}"
    error = as_out_of_memory(error) or error
    if isinstance(error, UserError):
        _end(f"{who}: {error}", error.exit_code)
    if isinstance(error, KeyboardInterrupt):
        _end(f"{who}: interrupted; what was saved is intact", 130)
    if isinstance(error, jax.errors.JaxRuntimeError) and _SIGNS_OF_A_LOSS.search(str(error)):
        cause = " ".join(str(error).split())
        cause = cause if len(cause) <= 160 else cause[:160] + "..."
        _end(
            f"{who} has lost another process ({cause}); the newest checkpoint is intact: run the same command again "
            "to go on from it",
            LOST,
        )
    traceback.print_exception(error)
    _end(f"{who} has failed", 1)


def _end(message: str, code: int) -> NoReturn:
    """Ends this process without what Python does at exit, which would wait for the others."""
    print(f"vsml: {message}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(code)
