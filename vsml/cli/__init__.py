"""The command line.

    command       from the words after `vsml` to an exit code
    usage         the verbs with their words and flags, and help
    verbs         what each verb does
    doctor        `vsml doctor`
    completion    what a shell offers when Tab is pressed

Nothing here imports JAX before a verb needs it: help and completion answer at once.
"""

from vsml.cli.command import main
from vsml.cli.verbs import show

__all__ = ["main", "show"]
