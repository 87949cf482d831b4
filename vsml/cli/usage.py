"""The verbs of the command line with their words and flags: what `--help` shows, absl parses and a shell completes."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from vsml.errors import UserError

if TYPE_CHECKING:
    from absl.flags import FlagValues

WIDTH = 80
COMPLETE = "__complete"
"""A verb that only the scripts of `vsml completion` use."""

Kind = Literal[
    "recipe",
    "sweep",
    "tasks",
    "override",
    "learned",
    "run",
    "results",
    "directory",
    "file",
    "part",
    "pretrained",
    "shell",
]
"""What a word may be: `learned` is a run or an exported file, `results` a run or a sweep."""


@dataclass(frozen=True)
class Flag:
    """One flag of a verb."""

    name: str
    meaning: str
    value: str = ""  # the placeholder of its value in help; none for a switch
    default: Any = None
    is_a: Literal["text", "texts", "number", "switch", "choice"] = "text"
    choices: tuple[str, ...] = ()  # all values of a choice, or some of a text
    kind: Kind | None = None  # of its value


@dataclass(frozen=True)
class Verb:
    """What follows `vsml`."""

    name: str
    summary: str  # in the list of verbs
    sentence: str
    words: str  # as usage shows them
    kinds: tuple[Kind, ...] = ()  # of the words in order; the last one of any further words
    flags: tuple[Flag, ...] = ()
    examples: tuple[str, str] = ("", "")
    repeats: bool = False  # whether more words may follow than there are kinds


OVERRIDES = (
    Flag(
        "gin_file", "a gin file that follows the other arguments; may be given again", "FILE", [], "texts", (), "file"
    ),
    Flag("gin_bindings", "a gin binding that follows the gin files; may be given again", "KEY=VALUE", [], "texts"),
)
CHECKPOINT = Flag(
    "checkpoint", "newest, best, or a number of meta-steps", "WHICH", "newest", choices=("newest", "best")
)
ON = Flag("on", "other tasks, such as tasks/wine.gin: evaluators follow them", "FILE", kind="tasks")


def _out(default: str) -> Flag:
    """Where an evaluation goes."""
    return Flag("out", f"where the results go (default: {default})", "DIR", kind="directory")


VERBS = (
    Verb(
        "train",
        "meta-train a recipe, or go on where it was stopped",
        "Meta-trains a recipe and evaluates the outcome; the same command again goes on where it was stopped.",
        "RECIPE [GIN_FILE | KEY=VALUE ...]",
        ("recipe", "override"),
        (
            Flag("run_dir", "the directory of the run (default: runs/RECIPE)", "DIR", kind="directory"),
            Flag("devices", "how many devices to use (default: all that divide the population)", "N", is_a="number"),
            Flag("dry_run", "build everything, print what a run would need, and end", "", False, "switch"),
            Flag(
                "distributed",
                "run as one of several processes; Slurm, a TPU pod, MPI or the next three flags say which one",
                "",
                False,
                "switch",
            ),
            Flag("coordinator", "where process 0 listens", "HOST:PORT"),
            Flag("num_processes", "how many processes there are", "N", is_a="number"),
            Flag("process_index", "which of them this is, from 0", "I", is_a="number"),
            *OVERRIDES,
        ),
        (
            "vsml train recipes/quickstart.gin STEPS=200",
            "vsml train quickstart cells/gru.gin cells.GRU.size=32 --run_dir runs/gru",
        ),
        repeats=True,
    ),
    Verb(
        "eval",
        "meta-test what a run has learned, also on other tasks",
        "Evaluates what a run has learned, with frozen meta-parameters, and shows the table.",
        "SOURCE [GIN_FILE | KEY=VALUE ...]",
        ("learned", "override"),
        (
            ON,
            CHECKPOINT,
            _out("RUN_DIR, a folder in RUN_DIR/evaluations, or FILE.evaluations"),
            *OVERRIDES,
        ),
        (
            "vsml eval runs/quickstart --checkpoint best",
            "vsml eval runs/quickstart --on tasks/wine.gin",
        ),
        repeats=True,
    ),
    Verb(
        "introspect",
        "what a learned algorithm does, and what it is like",
        "Shows what a learned algorithm does: what one presentation of an input changes, which entries of its state "
        "are slow and which matter, the norms of messages, and which known algorithm it predicts like, over a "
        "lifetime and over the checkpoints that were kept.",
        "SOURCE [GIN_FILE | KEY=VALUE ...]",
        ("learned", "override"),
        (
            ON,
            CHECKPOINT,
            _out("RUN_DIR/introspection, a folder in it, or FILE.introspection"),
            *OVERRIDES,
        ),
        (
            "vsml introspect runs/quickstart",
            "vsml introspect runs/quickstart evaluators.ShownAgain.lifetimes=20",
        ),
        repeats=True,
    ),
    Verb(
        "export",
        "write what a run has learned as one small file",
        "Writes the meta-parameters of a run, with all that is needed to use them, as one .npz file.",
        "SOURCE FILE.npz",
        ("learned", "file"),
        (CHECKPOINT,),
        ("vsml export runs/quickstart vsml.npz", "vsml export runs/quickstart best.npz --checkpoint best"),
    ),
    Verb(
        "sweep",
        "run every point of a sweep, or what is left of it",
        "Runs every point of a sweep that is not finished yet, each in a process of its own.",
        "FILE [GIN_FILE | KEY=VALUE ...]",
        ("sweep", "override"),
        (
            Flag("sweep_dir", "the directory of the sweep (default: runs/FILE)", "DIR", kind="directory"),
            Flag("list", "show the points and how far they are, and end", "", False, "switch"),
            Flag("jobs", "points at once; cores are shared out", "N", 1, "number"),
            Flag("index", "run this point alone, in this process", "I", is_a="number"),
            Flag("launcher", "what runs the points", "NAME", "local", "choice", ("local", "slurm", "xm")),
            *OVERRIDES,
        ),
        (
            "vsml sweep sweeps/learners.gin STEPS=100 --jobs 2",
            "vsml sweep my_sweep.gin 'axes.SEED=[0,1,2]' --list",
        ),
        repeats=True,
    ),
    Verb(
        "report",
        "tables and plots of a run or a sweep, as a page",
        "Writes tables and plots of a run or a sweep, finished or not, to DIR/report as Markdown and as a page.",
        "DIR",
        ("results",),
        (),
        ("vsml report runs/quickstart", "vsml report runs/learners"),
    ),
    Verb(
        "compare",
        "how two runs differ, in their settings and results",
        "Shows how two runs differ: their settings, their results, and what they ran on.",
        "RUN_DIR RUN_DIR",
        ("run", "run"),
        (),
        ("vsml compare runs/quickstart runs/gru", "vsml compare runs/learners/learner=vsml,seed=0 runs/quickstart"),
    ),
    Verb(
        "matrix",
        "draw the network of sub-RNNs as one sparse matrix",
        "Draws the network of sub-RNNs of a run or a recipe as one sparse matrix.",
        "SOURCE | RECIPE [GIN_FILE | KEY=VALUE ...]",
        ("learned", "override"),
        (
            Flag("out", "the picture: .png, .svg or .pdf", "FILE", "matrix.png", kind="file"),
            Flag("backward_pass", "show the parameter sets of the backward pass", "", False, "switch"),
            CHECKPOINT,
            *OVERRIDES,
        ),
        (
            "vsml matrix runs/quickstart --out matrix.png",
            "vsml matrix quickstart cells/vanilla.gin --out matrix.svg",
        ),
        repeats=True,
    ),
    Verb(
        "parts",
        "the parts that gin files may name, with their fields",
        "Lists the parts that gin files may name: all, those of an axis, or one with the meaning of each field.",
        "[AXIS | AXIS.PART | train]",
        ("part",),
        (),
        ("vsml parts cells", "vsml parts cells.LSTM"),
    ),
    Verb(
        "recipes",
        "the recipes that are shipped",
        "Lists the recipes that are shipped, with what each shows.",
        "",
        (),
        (),
        ("vsml recipes", "vsml recipes | grep quickstart"),
    ),
    Verb(
        "pretrained",
        "the learned algorithms that come with the package",
        "Lists the learned algorithms that come with the package with their scores, or shows what is known of one.",
        "[NAME]",
        ("pretrained",),
        (),
        ("vsml pretrained", "vsml pretrained broad"),
    ),
    Verb(
        "doctor",
        "versions, devices, caches and data: for a bug report",
        "Shows versions, devices, caches, data sets and disk space, and what is missing: all that a bug report needs.",
        "",
        (),
        (),
        ("vsml doctor", "VSML_DATA_DIR=~/data vsml doctor"),
    ),
    Verb(
        "completion",
        "a script that makes a shell complete all of this",
        "Prints the script that makes a shell complete verbs, flags, recipes, gin files, parts, fields and runs.",
        "bash | zsh | fish",
        ("shell",),
        (),
        ('eval "$(vsml completion bash)"', "vsml completion fish | source"),
    ),
)

WORDS = {
    "RECIPE": "a recipe: recipes/quickstart.gin, or your own file; `vsml recipes` lists those that are shipped",
    "FILE": "a sweep: sweeps/learners.gin, or your own file",
    "RUN_DIR": "the directory of a run, such as runs/quickstart",
    "FILE.npz": "meta-parameters in one file, from `vsml export`",
    "SOURCE": "a run directory, a file of `vsml export`, or pretrained:NAME",
    "NAME": "of a pretrained algorithm",
    "DIR": "the directory of a run or a sweep, such as runs/quickstart",
    "GIN_FILE": "a gin file that changes some settings: cells/gru.gin, or your own file",
    "KEY=VALUE": "a setting: a macro, as in STEPS=200, or AXIS.PART.FIELD, as in cells.LSTM.size=32; later ones win",
    "AXIS": "cells, learners, tasks, ...; `vsml parts optax` lists what optax offers",
    "AXIS.PART": "one of its parts, such as cells.LSTM",
    "train": "the settings of a run",
}
"""What the words of usage lines mean."""


def find(name: str) -> Verb:
    """The verb of that name. Raises `UserError` where there is none."""
    names = [verb.name for verb in VERBS]
    if name not in names:
        from vsml.config import suggest

        raise UserError(f"'{name}' is not a command{suggest(name, names) or ': commands are ' + ', '.join(names)}")
    return VERBS[names.index(name)]


def overview() -> str:
    """What `vsml --help` shows."""
    verbs = "".join(f"  vsml {verb.name:<10}  {verb.summary}\n" for verb in VERBS)
    return (
        "usage: vsml VERB ...; `vsml VERB --help` shows its words, flags and two examples\n\n"
        f"{verbs}\n"
        "To begin with:\n"
        "  vsml train recipes/quickstart.gin\n"
    )


def of_verb(verb: Verb) -> str:
    """What `vsml VERB --help` shows."""
    usage = " ".join(["vsml", verb.name, *verb.words.split(), *(["[FLAGS]"] if verb.flags else [])])
    shown = verb.words.replace("[", " ").replace("]", " ").replace("|", " ").split()
    words = {word: WORDS[word] for word in shown if word in WORDS}
    flags = {_notation(flag): _meaning(flag) for flag in verb.flags}
    pieces = [_wrapped(verb.sentence), f"usage: {usage}"]
    pieces += [_table("", words)] if words else []
    pieces += [_table("flags:\n", flags)] if flags else []
    pieces.append("\n".join(["examples:", *(f"  {example}" for example in verb.examples)]))
    return "\n\n".join(pieces) + "\n"


def _notation(flag: Flag) -> str:
    return f"--{flag.name} {flag.value}".rstrip()


def _meaning(flag: Flag) -> str:
    choices = f": {', '.join(flag.choices)}" if flag.is_a == "choice" else ""
    default = f" (default: {flag.default})" if flag.default not in (None, False, []) else ""
    return f"{flag.meaning}{choices}{default}"


def _table(head: str, rows: dict[str, str]) -> str:
    indent = max(map(len, rows)) + 4
    lines = [_wrapped(meaning, f"  {name:<{indent - 2}}", " " * indent) for name, meaning in rows.items()]
    return head + "\n".join(lines)


def _wrapped(text: str, first: str = "", others: str = "") -> str:
    return textwrap.fill(text, WIDTH, initial_indent=first, subsequent_indent=others, break_on_hyphens=False)


def parse(verb: Verb, arguments: Sequence[str]) -> tuple[list[str], FlagValues]:
    """Words and flags of a command line after its verb. Raises `UserError` for flags that are wrong."""
    from absl import flags

    values = flags.FlagValues()
    for flag in verb.flags:
        define = {
            "text": flags.DEFINE_string,
            "texts": flags.DEFINE_multi_string,
            "number": flags.DEFINE_integer,
            "switch": flags.DEFINE_bool,
            "choice": partial(flags.DEFINE_enum, enum_values=flag.choices),
        }[flag.is_a]
        define(name=flag.name, default=flag.default, help=flag.meaning, flag_values=values)
    flags.DEFINE_bool("help", False, "show this help", short_name="h", flag_values=values)
    try:
        return values(["vsml", *arguments])[1:], values
    except flags.Error as error:
        raise UserError(f"{' '.join(str(error).split())}; `vsml {verb.name} --help` lists the flags") from None
