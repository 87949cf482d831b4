"""What each verb of the command line does: a function of its words and flags that returns the exit code.

Heavy modules are imported where they are needed: most verbs start without JAX.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsml import __version__
from vsml.errors import UserError

if TYPE_CHECKING:
    from vsml.runs.saved import Which
    from vsml.training.distributed import Cluster


@dataclass(frozen=True)
class Arguments:
    """A parsed command line."""

    words: list[str]  # after the verb, in order
    flags: Any


def _overrides(arguments: Arguments) -> list[str]:
    bindings = [re.sub(r"\s*=\s*", "=", binding, count=1) for binding in arguments.flags["gin_bindings"].value]
    return [*arguments.words[1:], *arguments.flags["gin_file"].value, *bindings]


def _use_the_machine() -> None:
    """Lets JAX use all cores of a CPU and the compiled programs of earlier commands; call it before JAX is used."""
    from vsml.hardware import keep_compiled, one_device_per_core

    one_device_per_core()
    keep_compiled()


def _train(arguments: Arguments) -> int:
    if not arguments.words and not arguments.flags["gin_file"].value:
        raise UserError("train needs a recipe, such as `vsml train recipes/quickstart.gin`; `vsml recipes` lists them")
    _use_the_machine()
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
    _use_the_machine()
    from vsml.training.meta_test import meta_test

    print(show(meta_test(*_evaluated(arguments))))
    return 0


def _introspect(arguments: Arguments) -> int:
    if not arguments.words:
        raise UserError(
            "introspect needs the directory of a run, such as `vsml introspect runs/quickstart`, or an exported file"
        )
    _use_the_machine()
    from vsml.analysis.report import report
    from vsml.training.introspection import introspect

    summary, directory = introspect(*_evaluated(arguments))
    print(show(summary))
    print(report(Path(os.path.relpath(directory))))
    return 0


def _evaluated(arguments: Arguments) -> tuple[Path, list[str], Which, Path | None]:
    """What is evaluated, with which overrides and of which checkpoint, and where the outcome goes."""
    from vsml import pretrained
    from vsml.config import macros_set_by

    source, on, out = arguments.words[0], arguments.flags["on"].value, arguments.flags["out"].value
    if pretrained.is_name(source):  # nothing is written beside the package's own files
        out = out or _place(source)
    if on and "TASKS" not in macros_set_by([on]):
        raise UserError(f"--on {on}: this sets no TASKS: give a file such as tasks/wine.gin")
    overrides = [*([on] if on else []), *_overrides(arguments)]
    return Path(source), overrides, _checkpoint(arguments), Path(out) if out else None


def _place(source: str) -> str:
    """Where evaluations of `pretrained:NAME` go. Raises `UserError` for an unknown NAME."""
    from vsml import pretrained

    return str(Path("runs") / f"pretrained_{pretrained.path_of(source).stem}")


def _directory(word: str) -> Path:
    """The directory of a run or a sweep. Raises `UserError` for `pretrained:NAME`, which comes without one."""
    from vsml import pretrained

    if pretrained.is_name(word):
        raise UserError(
            f"{word}: this is a file, not the directory of a run: make one by `vsml eval {word} --on tasks/wine.gin`, "
            f"and name {_place(word)}"
        )
    return Path(word)


def _export(arguments: Arguments) -> int:
    if len(arguments.words) != 2:
        raise UserError("export needs the directory of a run and a file, as in `vsml export runs/quickstart vsml.npz`")
    from vsml.runs import sources

    source, file = map(Path, arguments.words)
    exported = sources.export(source, file, _checkpoint(arguments))
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
    """The lines that end a run: what was trained, and the table; no wider than a terminal that shows them."""
    from vsml.analysis.tables import WIDTH, evaluation_table
    from vsml.training.display import columns_of, wrapped

    width = min(WIDTH, columns_of(sys.stdout)) if sys.stdout.isatty() else WIDTH

    head = (
        f"{summary['recipe']}: {summary['meta_steps']} meta-steps in {summary['seconds']:.0f} s "
        f"on {summary['devices']} device(s), |V_M| = {summary['num_meta_parameters']:,}, "
        f"|V_L| = {summary['num_learned_variables']:,}"
    )
    table = [evaluation_table(summary["evaluations"], width)] if summary["evaluations"] else []
    return "\n".join([wrapped(head, width), *table])


def _sweep(arguments: Arguments) -> int:
    from vsml.shipped import recipes

    if not arguments.words:
        shipped = ", ".join(path for path, _ in recipes("sweeps"))
        raise UserError(f"sweep needs a sweep file; shipped are {shipped}")
    values = arguments.flags
    asked = [f"--{name}" for name in ("list", "index", "jobs") if values[name].present]
    asked += ["--launcher"] if values["launcher"].value != "local" else []
    if len(asked) > 1:
        raise UserError(f"{asked[0]} and {asked[1]} exclude each other: give one of them")
    if values["index"].value is not None:
        _use_the_machine()
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

    print(report(_directory(arguments.words[0])))
    return 0


def _compare(arguments: Arguments) -> int:
    if len(arguments.words) != 2:
        raise UserError("compare needs the directories of two runs, such as `vsml compare runs/a runs/b`")
    from vsml.analysis.compare import compare

    print(compare(*map(_directory, arguments.words)))
    return 0


def _matrix(arguments: Arguments) -> int:
    if not arguments.words:
        raise UserError("matrix needs a run or a recipe, such as `vsml matrix recipes/quickstart.gin --out matrix.png`")
    from vsml import config as configs
    from vsml import pretrained
    from vsml.analysis.matrix_drawing import save_drawing
    from vsml.analysis.network_picture import network_picture
    from vsml.hardware import keep_compiled
    from vsml.runs import names, sources
    from vsml.training.meta_step import run_key

    keep_compiled()

    source = Path(arguments.words[0])
    is_saved = source.is_dir() or source.suffix == names.EXPORTED or pretrained.is_name(source)
    saved = sources.of_path(source, _checkpoint(arguments)) if is_saved else None
    with sources.config_file(source, saved) if saved else nullcontext(arguments.words[0]) as recipe:
        experiment = configs.load(str(recipe), _overrides(arguments)).build()
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
    from vsml.shipped import recipes

    if arguments.words:
        raise UserError(f"recipes takes no arguments, not {' '.join(arguments.words)}")
    for path, header in recipes():
        print(f"{path}: {header}")
    return 0


def _pretrained(arguments: Arguments) -> int:
    from vsml import pretrained

    if len(arguments.words) > 1:
        raise UserError(f"pretrained takes no more than one name, not {' '.join(arguments.words)}")
    for name in arguments.words:
        print(pretrained.card(name).in_full())
    if not arguments.words:
        print(pretrained.overview())
    return 0


def _doctor(arguments: Arguments) -> int:
    from vsml.cli.doctor import report

    if arguments.words:
        raise UserError(f"doctor takes no arguments, not {' '.join(arguments.words)}")
    _use_the_machine()
    print(report())
    return 0


def _completion(arguments: Arguments) -> int:
    from vsml.cli.completion import script

    if len(arguments.words) != 1:
        raise UserError("completion needs the name of a shell, as in `vsml completion bash`")
    print(script(arguments.words[0]), end="")
    return 0


VERBS: Mapping[str, Callable[[Arguments], int]] = {
    "train": _train,
    "eval": _eval,
    "introspect": _introspect,
    "export": _export,
    "sweep": _sweep,
    "report": _report,
    "compare": _compare,
    "matrix": _matrix,
    "parts": _parts,
    "recipes": _recipes,
    "pretrained": _pretrained,
    "doctor": _doctor,
    "completion": _completion,
}
"""Verb -> what it does; `usage` describes them."""
