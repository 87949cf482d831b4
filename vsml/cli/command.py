"""From the words after `vsml` to an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from vsml import __version__
from vsml.cli import usage
from vsml.cli.verbs import VERBS, Arguments
from vsml.errors import UserError, as_out_of_memory
from vsml.training.display import display


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Returns its exit code; a user's mistake is one line on standard error."""
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except (UserError, MemoryError, RuntimeError) as error:
        known = error if isinstance(error, UserError) else as_out_of_memory(error)
        if known is None:
            raise
        if not (known.alike and _of_another_process()):
            display.say(f"vsml: {known}")
        return known.exit_code
    except KeyboardInterrupt:
        display.say("vsml: interrupted; what was saved is intact")
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(argv: list[str]) -> int:
    name, *words = argv or ["help"]
    if name == usage.COMPLETE:
        from vsml.cli.completion import complete

        print(complete(words), end="")
        return 0
    if name in ("help", "-h", "--help", "--helpshort", "--helpfull"):
        print(usage.of_verb(usage.find(words[0])) if words else usage.overview(), end="")
        return 0 if argv else 2
    if name in ("version", "--version"):
        print(__version__)
        return 0
    verb = usage.find(name)
    words, flags = usage.parse(verb, words)
    if flags["help"].value:
        print(usage.of_verb(verb), end="")
        return 0
    return VERBS[verb.name](Arguments(words, flags))


def _of_another_process() -> bool:
    """Whether this process is not process 0, which prints what all of them would print."""
    from vsml.training.distributed import is_main

    return not is_main()
