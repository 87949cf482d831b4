"""The command line: `USAGE` lists its verbs, `vsml VERB --help` the flags of one."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from vsml import __version__
from vsml.errors import UserError, as_out_of_memory
from vsml.hardware import keep_compiled, one_device_per_core

if TYPE_CHECKING:
    from vsml.runs.saved import Which
    from vsml.training.distributed import Cluster

USAGE = """\
usage:
  vsml train RECIPE [GIN_FILE | KEY=VALUE ...] [--run_dir D]   meta-train; the same command again resumes
  vsml train RECIPE [...] --distributed                        be one of several processes: docs/launching.md
  vsml train RECIPE [...] --dry_run                            build everything, print what it would take, and end
  vsml eval RUN_DIR | FILE [GIN_FILE | KEY=VALUE ...]          meta-test what a run has learned, also on other tasks
  vsml export RUN_DIR FILE                                     write what a run has learned as one small .npz file
  vsml sweep FILE [GIN_FILE | KEY=VALUE ...] [--jobs N]        run every point of a sweep, or what is left of it
  vsml sweep FILE [...] --list                                 show its points
  vsml report DIR                                              tables and plots of a run or a sweep, as a page
  vsml compare RUN_DIR RUN_DIR                                 how two runs differ, in their configs and results
  vsml matrix RUN_DIR_OR_RECIPE [...] [--out FILE.png]         draw the network of sub-RNNs as one sparse matrix
  vsml parts [AXIS | AXIS.PART | train]                        the parts of every axis, or of one, or one in full
  vsml recipes                                                 the recipes that are shipped

Gin files and KEY=VALUE follow the recipe in the order given; KEY is a macro or axis.Part.field:
  vsml train recipes/quickstart.gin cells/lstm.gin STEPS=200 cells.LSTM.size=32
"""


@dataclass(frozen=True)
class Arguments:
    """A parsed command line."""

    verb: str
    words: list[str]  # after the verb, in order
    flags: Any


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Returns its exit code; a user's mistake is one line on standard error."""
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except (UserError, MemoryError, RuntimeError) as error:
        known = error if isinstance(error, UserError) else as_out_of_memory(error)
        if known is None:
            raise
        if not (known.alike and _of_another_process()):
            print(f"vsml: {known}", file=sys.stderr)
        return known.exit_code
    except KeyboardInterrupt:
        print("vsml: interrupted; what was saved is intact", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("help", "-h", "--help", "--helpshort", "--helpfull"):
        print(USAGE, end="")
        return 0 if argv else 2
    if argv[0] in ("version", "--version"):
        print(__version__)
        return 0
    verbs = {
        "train": _train,
        "eval": _eval,
        "export": _export,
        "sweep": _sweep,
        "report": _report,
        "compare": _compare,
        "matrix": _matrix,
        "parts": _parts,
        "recipes": _recipes,
    }
    if argv[0] not in verbs:
        from vsml.config import suggest

        raise UserError(f"'{argv[0]}' is no command{suggest(argv[0], verbs) or ': commands are ' + ', '.join(verbs)}")
    arguments = _parse(argv)
    if arguments.flags["help"].value:
        print(USAGE + "\nflags of this command:\n" + _flag_lines(arguments.flags), end="")
        return 0
    return verbs[argv[0]](arguments)


def _of_another_process() -> bool:
    """Whether process 0 of several says for this one what all of them have to say."""
    from vsml.training.distributed import is_main

    return not is_main()


def _flags(verb: str) -> flags.FlagValues:
    """The flags of a verb."""
    values = flags.FlagValues()
    if verb in ("train", "eval", "sweep", "matrix"):
        flags.DEFINE_multi_string("gin_file", [], "a gin file that follows the other arguments", flag_values=values)
        flags.DEFINE_multi_string("gin_bindings", [], "a gin binding that follows the gin files", flag_values=values)
    if verb == "train":
        flags.DEFINE_string("run_dir", None, "where the run lives (runs/RECIPE)", flag_values=values)
        flags.DEFINE_integer("devices", None, "devices to use (all that divide the population)", flag_values=values)
        flags.DEFINE_bool(
            "distributed",
            False,
            "be one of several processes of this run; Slurm, a TPU pod or MPI says which, or the next three flags",
            flag_values=values,
        )
        flags.DEFINE_string("coordinator", None, "HOST:PORT on which process 0 listens", flag_values=values)
        flags.DEFINE_integer("num_processes", None, "how many processes there are", flag_values=values)
        flags.DEFINE_integer("process_index", None, "which of them this is, from 0", flag_values=values)
        flags.DEFINE_bool("dry_run", False, "build everything, print what it would take, and end", flag_values=values)
    if verb == "sweep":
        flags.DEFINE_string("sweep_dir", None, "where the sweep lives (runs/FILE)", flag_values=values)
        flags.DEFINE_bool("list", False, "show the points and how far they are, and end", flag_values=values)
        flags.DEFINE_integer("index", None, "run this point alone, in this process", flag_values=values)
        flags.DEFINE_integer("jobs", 1, "points at once; cores are shared out", flag_values=values)
        flags.DEFINE_enum("launcher", "local", ["local", "slurm", "xm"], "what runs the points", flag_values=values)
    if verb == "matrix":
        flags.DEFINE_string("out", "matrix.png", "the picture: .png, .svg or .pdf", flag_values=values)
        flags.DEFINE_bool("backward_pass", False, "parameter sets of the backward pass", flag_values=values)
    if verb in ("eval", "export", "matrix"):
        flags.DEFINE_string("checkpoint", "newest", "newest, best, or a number of meta-steps", flag_values=values)
    if verb == "eval":
        flags.DEFINE_string(
            "on", None, "other tasks, such as tasks/wine.gin: evaluators follow them", flag_values=values
        )
        flags.DEFINE_string(
            "out", None, "where the outcome goes (RUN_DIR, or evaluations/ in it; FILE.evaluations)", flag_values=values
        )
    flags.DEFINE_bool("help", False, "show this help", short_name="h", flag_values=values)
    return values


def _parse(argv: list[str]) -> Arguments:
    values = _flags(argv[0])
    try:
        words = values(["vsml", *argv[1:]])[1:]
    except flags.Error as error:
        raise UserError(f"{' '.join(str(error).split())}; `vsml {argv[0]} --help` lists the flags") from None
    return Arguments(argv[0], words, values)


def _flag_lines(values: flags.FlagValues) -> str:
    names = sorted({name for name in values if len(name) > 1 and name != "help"})
    return "".join(f"  --{name}: {' '.join(values[name].help.split())}\n" for name in names)


def _overrides(arguments: Arguments) -> list[str]:
    bindings = [re.sub(r"\s*=\s*", "=", binding, count=1) for binding in arguments.flags["gin_bindings"].value]
    return [*arguments.words[1:], *arguments.flags["gin_file"].value, *bindings]


def _train(arguments: Arguments) -> int:
    if not arguments.words and not arguments.flags["gin_file"].value:
        raise UserError("train needs a recipe, such as `vsml train recipes/quickstart.gin`; `vsml recipes` lists them")
    one_device_per_core()
    keep_compiled()
    from vsml import config as configs
    from vsml.training import distributed, trainer

    recipe, *overrides = [*arguments.words[:1], *_overrides(arguments)]
    with distributed.joined(_cluster(arguments)):
        config = distributed.together(lambda: configs.load(recipe, overrides))
        devices = arguments.flags["devices"].value
        directory = arguments.flags["run_dir"].value or Path("runs") / Path(config.recipe).stem
        asked = {f"--{name}": arguments.flags[name].value for name in ("devices", "dry_run")}
        asked |= {"--run_dir": str(directory), "vsml": __version__, **configs.leaves(config.json["train"], "train")}
        distributed.check_alike(asked, "give all of them the same command")
        if arguments.flags["dry_run"].value:
            from vsml.training.dry_run import dry_run

            shown = distributed.together(lambda: dry_run(config, devices))
        else:
            summary = trainer.train(config, Path(directory), devices)
            shown = show(summary) if distributed.is_main() else ""
        if distributed.is_main():
            print(shown)
    return 0


def _cluster(arguments: Arguments) -> Cluster | None:
    """Where the processes of this run meet; None for one process."""
    from vsml.training.distributed import Cluster

    where = [arguments.flags[name].value for name in ("coordinator", "num_processes", "process_index")]
    return Cluster(*where) if arguments.flags["distributed"].value or where != [None] * 3 else None


def _eval(arguments: Arguments) -> int:
    if not arguments.words:
        raise UserError("eval needs the directory of a run, such as `vsml eval runs/quickstart`, or an exported file")
    one_device_per_core()
    keep_compiled()
    from vsml.config import macros_set_by
    from vsml.training.meta_test import meta_test

    out = arguments.flags["out"].value
    source, checkpoint = Path(arguments.words[0]), _checkpoint(arguments)
    on = arguments.flags["on"].value
    if on and "TASKS" not in macros_set_by([on]):
        raise UserError(f"--on {on}: this sets no TASKS: give a file such as tasks/wine.gin")
    overrides = [*([on] if on else []), *_overrides(arguments)]
    print(show(meta_test(source, overrides, checkpoint, Path(out) if out else None)))
    return 0


def _export(arguments: Arguments) -> int:
    if len(arguments.words) != 2:
        raise UserError("export needs the directory of a run and a file, as in `vsml export runs/quickstart vsml.npz`")
    from vsml.runs import sources

    directory, file = map(Path, arguments.words)
    exported = sources.export(directory, file, _checkpoint(arguments))
    size = sum(array.size for array in exported.arrays.values())
    print(f"{file}: {size:,} meta-parameters after {exported.about['step']} meta-steps, sha256 {exported.sha256[:12]}")
    return 0


def _checkpoint(arguments: Arguments) -> Which:
    text = arguments.flags["checkpoint"].value
    try:
        return text if text in ("newest", "best") else int(text)
    except ValueError:
        raise UserError(f"--checkpoint {text}: give newest, best, or a number of meta-steps") from None


def show(summary: Mapping[str, Any]) -> str:
    """The lines that end a run: what was trained, and the table."""
    from vsml.analysis.tables import evaluation_table

    head = (
        f"{summary['recipe']}: {summary['meta_steps']} meta-steps in {summary['seconds']:.0f} s "
        f"on {summary['devices']} device(s), |V_M| = {summary['num_meta_parameters']:,}, "
        f"|V_L| = {summary['num_learned_variables']:,}"
    )
    return "\n".join([head, evaluation_table(summary["evaluations"])]) if summary["evaluations"] else head


def _sweep(arguments: Arguments) -> int:
    from vsml.config import recipes

    if not arguments.words:
        shipped = ", ".join(path for path, _ in recipes("sweeps"))
        raise UserError(f"sweep needs a sweep file; shipped are {shipped}")
    values = arguments.flags
    asked = [f"--{name}" for name in ("list", "index", "jobs") if values[name].present]
    asked += ["--launcher"] if values["launcher"].value != "local" else []
    if len(asked) > 1:
        raise UserError(f"{asked[0]} and {asked[1]} exclude each other: give one of them")
    if values["index"].value is not None:
        one_device_per_core()
        keep_compiled()
    from vsml import sweep as sweeps

    sweep = sweeps.load(arguments.words[0], _overrides(arguments))
    directory = Path(values["sweep_dir"].value or Path("runs") / sweep.name)
    if values["list"].value:
        print(sweeps.show(sweep, directory))
    elif values["index"].value is not None:
        print(show(sweeps.run_point(sweep, values["index"].value, directory)))
    elif values["launcher"].value == "local":
        sweeps.run_all(sweep, directory, values["jobs"].value)
    else:
        return sweeps.launch(sweep, directory, values["launcher"].value)
    return 0


def _report(arguments: Arguments) -> int:
    if len(arguments.words) != 1:
        raise UserError("report needs the directory of a run or a sweep, such as `vsml report runs/quickstart`")
    from vsml.analysis.report import report

    print(report(Path(arguments.words[0])))
    return 0


def _compare(arguments: Arguments) -> int:
    if len(arguments.words) != 2:
        raise UserError("compare needs the directories of two runs, such as `vsml compare runs/a runs/b`")
    from vsml.analysis.compare import compare

    print(compare(*map(Path, arguments.words)))
    return 0


def _matrix(arguments: Arguments) -> int:
    if not arguments.words:
        raise UserError("matrix needs a run or a recipe, such as `vsml matrix recipes/quickstart.gin --out matrix.png`")
    keep_compiled()
    from vsml import config as configs
    from vsml.analysis.matrix_drawing import save_drawing
    from vsml.analysis.network_picture import network_picture
    from vsml.runs import names, sources
    from vsml.training.meta_step import run_key

    source, overrides = Path(arguments.words[0]), _overrides(arguments)
    saved = sources.of_run(source, _checkpoint(arguments)) if source.is_dir() else None
    recipe = arguments.words[0] if saved is None else str(source / names.CONFIG_GIN)
    experiment = configs.load(recipe, overrides).build()
    spec = experiment.spec if saved is None else sources.task_specs(saved.about)[0]
    params = experiment.learner.init(run_key(experiment, 0), spec)
    if saved is not None:
        try:
            params = saved.fill(params)
        except ValueError as error:
            raise UserError(f"{source}: its meta-parameters do not fit the learner ({error})") from None
    backward_pass = arguments.flags["backward_pass"].value
    figure, shown = network_picture(experiment.learner, params, spec, backward_pass)
    out = Path(arguments.flags["out"].value)
    save_drawing(figure, out)
    print(f"{out}: {shown}")
    return 0


def _parts(arguments: Arguments) -> int:
    from vsml.config import overview, part_in_full, parts

    if len(arguments.words) > 1:
        raise UserError(f"parts takes one axis or one part, not {' '.join(arguments.words)}")
    (word,) = arguments.words or [None]
    if word == "train" or (word and "." in word):
        print(part_in_full(word))
        return 0
    for part in parts(word):
        print(overview(part))
    return 0


def _recipes(arguments: Arguments) -> int:
    from vsml.config import recipes

    if arguments.words:
        raise UserError(f"recipes takes no arguments, not {' '.join(arguments.words)}")
    for path, header in recipes():
        print(f"{path}: {header}")
    return 0
