"""One trainer per run directory: a file that says which process trains there, with a sign of life every few seconds.

A killed process leaves its lock behind. On the same machine this is noticed at once; a lock of another machine is taken
over after `PATIENCE` seconds without a sign of life. Times are those of the file system, which all machines share.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from vsml.errors import UserError
from vsml.runs import names
from vsml.runs.files import writing

SIGN_SECONDS = 10.0
"""Seconds between two signs of life."""
PATIENCE = 60.0
"""Seconds without one after which a lock of another machine is stale."""


class Occupied(UserError):
    """Another process trains in this run directory, or has taken it over."""


class RunLock:
    """The right to write to a run directory; `close` gives it back."""

    def __init__(self, directory: Path, say: Callable[[str], None]):
        """Does not take the lock yet.

        Args:
          directory: of the run; it must exist when `acquire` is called.
          say: called with a message when a lock is waited for or taken over.
        """
        self._directory, self._say = directory, say
        self._path = directory / names.LOCK
        self._own: dict[str, Any] | None = None
        self._ended = threading.Event()
        self._signs = threading.Thread(target=self._give_signs, daemon=True)

    def acquire(self) -> None:
        """Takes the lock. Raises `Occupied` where another process that is alive has it."""
        refuse_where_occupied(self._directory, self._say)
        own = {"host": socket.gethostname(), "process": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S %z")}
        own |= {"machine": _machine(), "started": _started(os.getpid()), "token": uuid.uuid4().hex}
        self._write(own)
        self._own = own
        self._signs.start()

    def _write(self, own: dict[str, Any]) -> None:
        with writing(self._path):
            try:
                with self._path.open("x") as file:
                    file.write(json.dumps(own) + "\n")
            except FileExistsError:
                raise Occupied(f"{self._directory}: another process has just begun to train here") from None

    def check(self) -> None:
        """Raises `UserError` where the run directory was removed, or another process has it. Call before writing."""
        if self._own is None:
            return
        if not (self._directory / names.CONFIG_JSON).exists():  # others may have made the directory again
            raise UserError(
                f"{self._directory}: the run directory was removed while the run was under way, and its checkpoints "
                "with it: run the same command again to begin from the start"
            )
        holder = _read(self._path)
        if holder is None:  # only the lock was removed
            self._write(self._own)
        elif not self._is_own():
            raise Occupied(f"{self._directory}: {_name(holder)} has taken this run over, so this process has stopped")

    def close(self) -> None:
        """Gives the lock back, if it is still held."""
        if self._own is None:
            return
        self._ended.set()
        self._signs.join()
        with suppress(OSError):
            if self._is_own():
                self._path.unlink()
        self._own = None

    def _is_own(self) -> bool:
        return self._own is not None and (_read(self._path) or {}).get("token") == self._own["token"]

    def _give_signs(self) -> None:
        while not self._ended.wait(SIGN_SECONDS):
            with suppress(OSError):
                if self._is_own():
                    os.utime(self._path)


def refuse_where_occupied(directory: Path, say: Callable[[str], None]) -> None:
    """Raises `Occupied` where another process trains in a run directory; removes the lock of one that has ended."""
    path = directory / names.LOCK
    holder = _read(path)
    if holder is None:
        return
    if holder.get("machine") == _machine():
        alive = _is_alive(holder)
    else:
        alive = _gives_signs(path, lambda: say(f"{directory}: waiting for a sign of {_name(holder)}"))
    if alive:
        raise Occupied(
            f"{directory}: {_name(holder)} trains here: wait for its end or stop it, or choose another --run_dir"
        )
    if _read(path) == holder:
        with writing(path):
            path.unlink(missing_ok=True)
        say(f"{directory}: took over the lock of {_name(holder)}, which has ended")


def _read(path: Path) -> dict[str, Any] | None:
    """What a lock says; {} for one that is being written or damaged, None where there is none."""
    try:
        content = json.loads(path.read_text())
        return content if isinstance(content, dict) else {}
    except ValueError:
        return {}
    except OSError:
        return None


def _name(holder: dict[str, Any]) -> str:
    who = f"process {holder.get('process', '?')} on {holder.get('host', 'an unknown host')}"
    return f"{who} (since {holder['since']})" if "since" in holder else who


def _is_alive(holder: dict[str, Any]) -> bool:
    """Whether the holder still runs on this machine; another process that has its number by now does not count."""
    try:
        os.kill(holder["process"], 0)
    except PermissionError:  # it runs, as another user
        return True
    except (OSError, KeyError, TypeError):
        return False
    return holder.get("started") == _started(holder["process"])


def _gives_signs(path: Path, wait: Callable[[], None]) -> bool:
    """Whether the holder of a lock of another machine is alive; calls `wait` before it waits for a sign of life."""
    end, last = time.monotonic() + PATIENCE, _modified(path)
    if last is None or _now(path.parent) - last > PATIENCE:
        return False
    wait()
    while time.monotonic() < end and _now(path.parent) - last <= PATIENCE:
        time.sleep(min(1.0, PATIENCE / 10))
        if (latest := _modified(path)) != last:
            return latest is not None
    return False


def _modified(path: Path) -> float | None:
    """When a file was last touched; opened first, since only then network file systems show changes of others."""
    try:
        with path.open() as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return None


def _now(directory: Path) -> float:
    """The clock of the file system."""
    probe = directory / f".clock-{uuid.uuid4().hex}"
    with writing(probe):
        probe.touch()
        now = probe.stat().st_mtime
        probe.unlink()
    return now


def _machine() -> str:
    """Where process numbers are unique: the boot of a machine and, in a container, its own numbering."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _started(process: int) -> str | None:
    """When a process began, in ticks since the boot; None where it has ended, or the system does not say."""
    try:
        state, *fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else fields[18]
