"""How far an evaluation is, told to those who listen, such as a terminal; the numbers do not depend on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[str, int, int], None]
"""Called with what is evaluated, the lifetimes that are done, and how many there are."""

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)
_subject: ContextVar[str] = ContextVar("subject", default="")


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Within the block `listener` is told of all lifetimes that `run_lifetimes` runs."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def evaluating(subject: str) -> Iterator[None]:
    """Names what is evaluated within the block: an evaluation, or within it one of its rivals."""
    before = _subject.get()
    token = _subject.set(f"{before}: {subject}" if before else subject)
    try:
        yield
    finally:
        _subject.reset(token)


def tell(done: int, total: int) -> None:
    """Tells of lifetimes that are done."""
    listener = _listener.get()
    if listener is not None:
        listener(_subject.get(), done, total)
