"""The one exception for what a user can mend."""

from __future__ import annotations


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
