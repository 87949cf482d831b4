"""TensorBoard's event file of a run directory: one, so that TensorBoard lists one run.

A record is its length (8 bytes), a checksum of that, the event, a checksum of the event.
"""
# pyright: reportAttributeAccessIssue=false
# (the protocol buffers of tensorboardX make their classes when imported)

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import Summary

from vsml.runs.files import writing

PREFIX = "events.out.tfevents."
FLUSH_SECONDS = 5
_HEAD = 12  # bytes before the event
_TAIL = 4


class EventFile:
    """An event file, written by the calling thread.

    tensorboardX's own writer hands everything to another thread. A full disk ends that thread unnoticed, and the next
    calls wait forever; if the process is killed, what the thread has not written yet is missing after a resume.
    """

    def __init__(self, directory: Path, keep: Callable[[int, str], bool]):
        """Replaces the file of an earlier process by one that begins with the records to keep.

        Args:
          directory: of the run.
          keep: whether the value of a tag is kept, given its step and the tag.

        Raises:
          UserError: it cannot be written; the earlier file is unchanged.
        """
        self._directory = directory
        with writing(directory):
            directory.mkdir(parents=True, exist_ok=True)
            earlier = sorted(directory.glob(f"{PREFIX}*"))
            seconds, nanoseconds = divmod(time.time_ns(), 10**9)
            path = directory / f"{PREFIX}{seconds:010d}.{socket.gethostname()}.{nanoseconds:09d}"
            part = directory / ".events.part"
            self._file = part.open("wb")
            try:
                self._append(file_version="brain.Event:2")
                # Makes an open TensorBoard forget what it has read of the earlier file.
                self._append(step=0, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))
                for record in _kept(earlier[-1], keep) if earlier else ():
                    self._file.write(record)
                self.flush()
                os.replace(part, path)
            except BaseException:
                with suppress(OSError):
                    self._file.close()
                part.unlink(missing_ok=True)
                raise
            for other in earlier[:-1]:
                other.unlink()
            if earlier:  # emptied, not removed: only then an open TensorBoard goes on to the next file
                os.truncate(earlier[-1], 0)

    def add(self, step: int, summary: Summary) -> None:
        """Writes a summary. Raises `UserError`."""
        with writing(self._directory):
            self._append(step=step, summary=summary)
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def _append(self, **content: Any) -> None:
        event = event_pb2.Event(wall_time=time.time(), **content).SerializeToString()
        self._file.write(_head(len(event)) + event + struct.pack("<I", masked_crc32c(event)))

    def flush(self) -> None:
        """Pushes everything to disk."""
        with writing(self._directory):
            self._file.flush()
            os.fsync(self._file.fileno())
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Closes the file."""
        self.flush()
        self._file.close()


def _head(length: int) -> bytes:
    size = struct.pack("<Q", length)
    return size + struct.pack("<I", masked_crc32c(size))


def _kept(path: Path, keep: Callable[[int, str], bool]) -> Iterator[bytes]:
    """The records of a file that are kept, unchanged."""
    for record in _records(path):
        try:
            event = event_pb2.Event.FromString(record[_HEAD:-_TAIL])
        except DecodeError:
            return
        if event.summary.value and all(keep(event.step, value.tag) for value in event.summary.value):
            yield record


def _records(path: Path) -> Iterator[bytes]:
    """The whole records of a file; a last one that a crash cut short is left out."""
    with path.open("rb") as file:
        while len(head := file.read(_HEAD)) == _HEAD:
            (length,) = struct.unpack("<Q", head[:8])
            if head != _head(length):
                return
            rest = file.read(length + _TAIL)
            if len(rest) < length + _TAIL:
                return
            yield head + rest
