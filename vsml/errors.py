"""The one exception for what a user can mend, also where only memory is missing."""

from __future__ import annotations

import re

_OUT_OF_MEMORY = re.compile(r"RESOURCE_EXHAUSTED|out of memory|unable to allocate|failed to allocate", re.IGNORECASE)


class UserError(Exception):
    """Something the user can mend.

    The message is one line that names the cause and the mend; the command line prints it without a traceback and exits
    with `exit_code`.
    """

    exit_code = 2
    alike = False
    """Whether all processes of a run raise it at the same point: then process 0 says it for all."""

    def __init__(self, message: str):
        super().__init__(" ".join(message.splitlines()))  # what it quotes may be of several


class OutOfMemory(UserError):
    """More was asked for than there is."""

    def __init__(self, cause: str):
        super().__init__(
            f"out of memory ({cause}); what was saved is intact: lower what is computed at once (`chunk` of the "
            "meta-optimizer or of an evaluator), POPULATION, LENGTH, or the sizes of the learner and its inputs; "
            "`vsml train ... --dry_run` says what a meta-step takes"
        )


def as_out_of_memory(error: BaseException) -> OutOfMemory | None:
    """What to say of an error of Python, NumPy or XLA that means that memory is missing; None for any other."""
    text = " ".join(str(error).split())
    means_it = isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(text))
    return OutOfMemory(text[:120] or type(error).__name__) if means_it else None
