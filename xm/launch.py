"""A run, or every point of a sweep, as an XManager experiment (`pip install 'vsml[xm]'`).

python xm/launch.py train RECIPE [GIN_FILE | KEY=VALUE ...] [flags of `vsml train`]
python xm/launch.py sweep FILE [GIN_FILE | KEY=VALUE ...] [--sweep_dir D] [--parallel N]
python xm/launch.py train RECIPE ... --run_dir /gcs/BUCKET/run --cloud [--resource v100=1]

Here work units are processes of this machine, `--parallel` at once (one is enough to keep a CPU busy). With `--cloud`
they are containers on Vertex AI, built from this checkout; directories are then below /gcs/BUCKET. That needs Docker
and credentials of Google Cloud. It follows XManager's documentation but has never been run: take it as a start.
XManager keeps a list of experiments in ~/.xmanager; flags of its own (--xm_...) follow `--`.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from absl import flags
from xmanager import xm, xm_local

from vsml.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Options:
    """Where work units run.

    Attributes:
      parallel: processes of this machine at once.
      cloud: on Vertex AI instead.
      resources: of a cloud worker, by XManager's names: cpu, ram, a100, tpu_v3, ...
    """

    parallel: int = 1
    cloud: bool = False
    resources: dict[str, int] = field(default_factory=dict)


def main(argv: Sequence[str] | None = None) -> int:
    """Launches what the command line says and waits for it. Returns 1 where a work unit has failed."""
    parser = argparse.ArgumentParser(usage=(__doc__ or "").split("\n\n")[1], allow_abbrev=False)
    parser.add_argument("verb", choices=["train", "sweep"])
    parser.add_argument("--parallel", type=int, default=Options.parallel, help="work units at once on this machine")
    parser.add_argument("--cloud", action="store_true", help="on Vertex AI (never tried)")
    parser.add_argument("--resource", action="append", default=[], metavar="NAME=N", help="of a worker in the cloud")
    parser.add_argument("--sweep_dir", type=Path)
    given = list(sys.argv[1:] if argv is None else argv)
    own = given.index("--") if "--" in given else len(given)
    known, words = parser.parse_known_args(given[:own])
    first = "recipe" if known.verb == "train" else "sweep file"
    if not words:
        parser.error(f"{known.verb} needs a {first}")
    if words[0].startswith("-"):
        parser.error(f"{words[0]}: flags of `vsml {known.verb}` follow the {first}: put it first")
    if known.parallel < 1:
        parser.error(f"--parallel {known.parallel}: ask for 1 or more")
    if wrong := [item for item in known.resource if not re.fullmatch(r"\w+=\d+", item)]:
        parser.error(f"--resource {wrong[0]}: give NAME=N, such as v100=1")
    try:
        flags.FLAGS([sys.argv[0], *given[own + 1 :]])
    except flags.Error as error:
        parser.error(str(error))
    resources = {name: int(number) for name, _, number in (item.partition("=") for item in known.resource)}
    options = Options(known.parallel, known.cloud, resources)
    try:
        if known.verb == "sweep":
            return launch(words[0], words[1:], known.sweep_dir or Path("runs") / Path(words[0]).stem, options)
        return _experiment(Path(words[0]).stem, [["train", *words]], options)
    except UserError as error:
        print(f"launch: {error}", file=sys.stderr)
        return error.exit_code


def launch(sweep_file: str, overrides: Sequence[str], sweep_dir: Path, options: Options | None = None) -> int:
    """Runs every point of a sweep as a work unit: `vsml sweep FILE --index I`."""
    from vsml.sweep import load
    from vsml.sweep.runs import record

    options = options or Options()
    sweep = load(sweep_file, overrides)
    if not options.cloud:
        record(sweep, sweep_dir)  # for the report
    shared = ["sweep", sweep_file, *overrides, "--sweep_dir", str(sweep_dir), "--index"]
    return _experiment(sweep_dir.name, [[*shared, str(point.index)] for point in sweep.points], options)


def _experiment(title: str, commands: Sequence[Sequence[str]], options: Options) -> int:
    """One work unit per command of `vsml`."""
    if not flags.FLAGS.is_parsed():
        flags.FLAGS([sys.argv[0]])
    failures: list[str] = []
    try:
        asyncio.run(_all(title, commands, options, failures))
    except RuntimeError:  # of a failed process, which XManager reports again at the end
        if not failures:
            raise
    for failure in failures:
        print(f"launch: failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


async def _all(title: str, commands: Sequence[Sequence[str]], options: Options, failures: list[str]) -> None:
    room = asyncio.Semaphore(len(commands) if options.cloud else options.parallel)
    executor: Any = xm_local.Local()
    if options.cloud:
        executor = xm_local.Vertex(requirements=xm.JobRequirements(**options.resources))
    async with xm_local.create_experiment(f"vsml {title}") as experiment:
        [program] = experiment.package([_in_the_cloud() if options.cloud else _here()])

        async def one(command: Sequence[str]) -> None:
            async with room:
                unit = await experiment.add(xm.Job(program, executor, name="vsml", args=list(command)))
                try:
                    await unit.wait_until_complete()
                except xm.ExperimentUnitError:
                    failures.append(" ".join(["vsml", *command]))

        await asyncio.gather(*map(one, commands))


def _here() -> xm.Packageable:
    """The interpreter that runs this, on this machine."""
    return xm.binary(xm_local.Local.Spec(), path=sys.executable, args=["-m", "vsml"])


def _in_the_cloud() -> xm.Packageable:
    """A container that holds this checkout."""
    install = "pip install --no-cache-dir -c constraints.txt ."
    return xm.python_container(
        xm_local.Vertex.Spec(),
        path=str(ROOT),
        base_image="python:3.12-slim",
        docker_instructions=["COPY . /vsml", "WORKDIR /vsml", f"RUN {install}"],
        entrypoint=xm.CommandList(['vsml "$@"']),
    )


if __name__ == "__main__":
    sys.exit(main())
