"""One run by several processes on this machine.

python launch/local.py RECIPE [GIN_FILE | KEY=VALUE ...] --processes N [--gpus] [flags of `vsml train`]

Every process is a `vsml train` with a share of the CPU's cores, or with one GPU each (`--gpus`); they meet on the
loopback interface. The results are those of one process with as many devices. The output is that of process 0,
and the errors of the others. Ctrl-C and SIGTERM are passed on to all, which save and stop together; when one of them
dies, the others are ended.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import IO

GRACE_SECONDS = 10
"""Time for the others to end by themselves, with their own message, once one of them has died."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the processes. Returns 0, or the exit code of the first that failed."""
    parser = argparse.ArgumentParser(usage=(__doc__ or "").split("\n\n")[1], allow_abbrev=False)
    parser.add_argument("--processes", type=int, required=True, help="how many")
    parser.add_argument("--gpus", action="store_true", help="process I runs on the I-th visible GPU, not on the CPU")
    options, arguments = parser.parse_known_args(argv)
    if options.processes < 1:
        parser.error("--processes: ask for 1 or more")
    return Group(options.processes, options.gpus).run(["train", *arguments])


class Group:
    """The processes of one run."""

    def __init__(self, size: int, gpus: bool):
        self.size, self.gpus = size, gpus
        self._processes: list[subprocess.Popen[str]] = []
        self._readers: list[threading.Thread] = []

    def run(self, arguments: Sequence[str]) -> int:
        """Runs `vsml` with the arguments and the address where the processes meet. Returns the exit code."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._hand_on)
        meet = ["--coordinator", f"127.0.0.1:{_free_port()}", "--num_processes", str(self.size)]
        for index in range(self.size):
            self._start([*arguments, *meet, "--process_index", str(index)], index)
        code = self._wait()
        for reader in self._readers:
            reader.join()
        return code

    def _start(self, arguments: Sequence[str], index: int) -> None:
        quiet = index > 0
        process = subprocess.Popen(
            [sys.executable, "-m", "vsml", *arguments],
            env=environment(os.environ, index, self.size, self.gpus),
            stdout=subprocess.DEVNULL if quiet else None,
            stderr=subprocess.PIPE if quiet else None,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches only this process, which passes it on once to each
        )
        self._processes.append(process)
        if process.stderr is not None:
            reader = threading.Thread(target=_show, args=(process.stderr, f"[{index}] "))
            reader.start()
            self._readers.append(reader)

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(number)

    def _wait(self) -> int:
        """Waits for all; ends the others when one has failed. Returns the code of the first that failed, or 0."""
        while True:
            codes = [process.poll() for process in self._processes]
            failed = [(index, code) for index, code in enumerate(codes) if code]
            if failed:
                return self._end_others(*failed[0])
            if None not in codes:
                return 0
            time.sleep(0.1)

    def _end_others(self, index: int, code: int) -> int:
        """Waits until all have ended after process `index` failed, or ends them. Returns the exit code for all."""
        end = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < end and any(process.poll() is None for process in self._processes):
            time.sleep(0.1)
        left = [process for process in self._processes if process.poll() is None]
        for process in left:
            process.kill()
            process.wait()
        if any(process.returncode != code for process in self._processes):  # else process 0 has said why
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            ended = f"; {len(left)} other(s) had to be ended" if left else ""
            print(f"launch: process {index} of {self.size} {how}{ended}", file=sys.stderr, flush=True)
        return 128 - code if code < 0 else code


def environment(outer: Mapping[str, str], index: int, size: int, gpus: bool) -> dict[str, str]:
    """The environment of process `index` of `size`: its GPU, or its share of the cores unless that is set already."""
    inner = dict(outer)
    if gpus:
        visible = outer.get("CUDA_VISIBLE_DEVICES", "")
        numbers = visible.split(",") if visible else [str(number) for number in range(size)]
        if len(numbers) < size:
            raise SystemExit(
                f"launch: CUDA_VISIBLE_DEVICES={visible} names {len(numbers)} GPU(s): ask for as many --processes"
            )
        inner["CUDA_VISIBLE_DEVICES"] = numbers[index]
        return inner
    inner.setdefault("JAX_PLATFORMS", "cpu")  # several processes on one GPU would fight for its memory
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    inner.setdefault("JAX_NUM_CPU_DEVICES", str(max(1, cores // size)))
    return inner


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _show(stream: IO[str], prefix: str) -> None:
    """Passes on the output of a process, line by line, without that of Gloo."""
    for line in stream:
        if not line.startswith("[Gloo]"):
            sys.stderr.write(prefix + line)
            sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
