"""`python -m vsml`, and `vsml` itself."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def main() -> int:
    """Runs the command line. Returns its exit code."""
    signal.signal(signal.SIGINT, _interrupt)
    from vsml.cli import main as run

    return run()


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Ctrl-C. Native libraries turn an exception in the middle of their import into another one, or swallow it."""
    outer = frame
    while outer is not None:
        if outer.f_code.co_filename.startswith("<frozen importlib"):
            print("vsml: interrupted; what was saved is intact", file=sys.stderr, flush=True)
            os._exit(130)
        outer = outer.f_back
    signal.default_int_handler(number, frame)


if __name__ == "__main__":
    sys.exit(main())
