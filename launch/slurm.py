"""A run on many nodes of a Slurm cluster, or a sweep as an array of jobs, by submitit (`pip install 'vsml[slurm]'`).

python launch/slurm.py train RECIPE [GIN_FILE | KEY=VALUE ...] [flags of `vsml train`] --nodes 4 --gpus_per_node 8
python launch/slurm.py sweep FILE [GIN_FILE | KEY=VALUE ...] [--sweep_dir D] --gpus_per_node 1 --parallel 16

--print shows the script and submits nothing. --cluster local has submitit run the jobs on this machine, --cluster debug
in this process. What sbatch reads from the environment (SBATCH_PARTITION, SBATCH_ACCOUNT, SBATCH_TIMELIMIT, ...)
applies too, also to `vsml sweep FILE --launcher slurm`.

Logs are in `slurm/` of the run or sweep directory, which all nodes must share. Two minutes before the time is over, and
on `scancel` and preemption, SIGTERM makes a run save and stop: submit the same command again to go on.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import submitit

from vsml.errors import UserError

SECONDS_TO_SAVE = 120
LOCAL = Path(__file__).with_name("local.py")
NUMBERS = {"nodes": 1, "tasks_per_node": 1, "gpus_per_node": 0, "cpus_per_task": 1, "minutes": 1, "parallel": 1}
"""Options that are numbers, and the least that each can be."""


@dataclass(frozen=True)
class Options:
    """What is asked of the cluster.

    Attributes:
      cluster: where jobs run: Slurm, processes of this machine, or this process.
      nodes: of a run.
      tasks_per_node: processes of a run on each node; None for one per GPU.
      gpus_per_node: 0 for CPUs alone.
      cpus_per_task: cores of each process.
      minutes: time limit.
      parallel: points of a sweep at once.
      sbatch: further parameters of sbatch, such as `partition`; True for one that takes no value.
      setup: lines of shell before the run starts, such as `module load cuda`.
      show: print the script instead of submitting it.
    """

    cluster: Literal["slurm", "local", "debug"] = "slurm"
    nodes: int = 1
    tasks_per_node: int | None = None
    gpus_per_node: int = 0
    cpus_per_task: int = 2
    minutes: int = 24 * 60
    parallel: int = 8
    sbatch: dict[str, str | bool] = field(default_factory=dict)
    setup: tuple[str, ...] = ()
    show: bool = False

    @property
    def processes(self) -> int:
        """Of one run."""
        return self.nodes * self._tasks_per_node

    @property
    def _tasks_per_node(self) -> int:
        return self.tasks_per_node or max(1, self.gpus_per_node)

    def parameters(self, name: str) -> dict[str, Any]:
        """For `submitit.SlurmExecutor.update_parameters`."""
        gpus = {"gpus_per_node": self.gpus_per_node} if self.gpus_per_node else {}
        return {
            "job_name": name,
            "nodes": self.nodes,
            "ntasks_per_node": self._tasks_per_node,
            "cpus_per_task": self.cpus_per_task,
            "time": self.minutes,
            "array_parallelism": self.parallel,
            "setup": list(self.setup) or None,
            # One process that has failed ends the others of its run; the first to finish does not: process 0 goes on
            # to evaluate.
            "srun_args": ["--kill-on-bad-exit=1", "--wait=0"],
            # submitit would ask for SIGUSR2, which a run does not handle.
            "additional_parameters": {"signal": f"TERM@{SECONDS_TO_SAVE}", **self.sbatch},
            **gpus,
        }


class Slurm(submitit.SlurmExecutor):
    """An executor that gives its script also where there is no Slurm."""

    @classmethod
    def affinity(cls) -> int:
        """Lets the executor be created where there is no Slurm."""
        return 1

    def script(self, points: int) -> str:
        """The script for sbatch: of one job, or of an array of `points` jobs."""
        array = {"map_count": points} if points > 1 else {}
        self.parameters = {**self.parameters, **array}
        return self._make_submission_file_text(self._submitit_command_str, "")


def main(argv: Sequence[str] | None = None) -> int:
    """Submits what the command line says. Returns 0, or 1 where a job that was waited for has failed."""
    parser = argparse.ArgumentParser(usage=(__doc__ or "").split("\n\n")[1], allow_abbrev=False)
    parser.add_argument("verb", choices=["train", "sweep"])
    parser.add_argument("--cluster", choices=["slurm", "local", "debug"], default=Options.cluster)
    for name in NUMBERS:
        parser.add_argument(f"--{name}", type=int, default=getattr(Options, name))
    parser.add_argument(
        "--sbatch",
        action="append",
        default=[],
        metavar="KEY[=VALUE]",
        help="any parameter of sbatch, such as exclusive",
    )
    parser.add_argument("--setup", action="append", default=[], metavar="COMMAND", help="a line before the run starts")
    parser.add_argument("--print", action="store_true", dest="show", help="show the script, submit nothing")
    parser.add_argument("--run_dir", type=Path)
    parser.add_argument("--sweep_dir", type=Path)
    known, words = parser.parse_known_args(argv)
    if not words:
        parser.error(f"{known.verb} needs a {_first(known.verb)}")
    if words[0].startswith("-"):
        parser.error(f"{words[0]}: flags of `vsml {known.verb}` follow the {_first(known.verb)}: put it first")
    for name, least in NUMBERS.items():
        if (number := getattr(known, name)) is not None and number < least:
            parser.error(f"--{name} {number}: ask for {least} or more")
    sbatch = {key: value if equals else True for key, equals, value in (s.partition("=") for s in known.sbatch)}
    if not all(sbatch):
        parser.error("--sbatch: give KEY=VALUE, or a KEY that takes no value")
    names = ("cluster", *NUMBERS, "show")
    options = Options(**{name: getattr(known, name) for name in names}, sbatch=sbatch, setup=tuple(known.setup))
    try:
        if known.verb == "sweep":
            return launch(words[0], words[1:], known.sweep_dir or Path("runs") / Path(words[0]).stem, options)
        return run(words, known.run_dir or Path("runs") / Path(words[0]).stem, options)
    except UserError as error:
        print(f"launch: {error}", file=sys.stderr)
        return error.exit_code


def _first(verb: str) -> str:
    return "recipe" if verb == "train" else "sweep file"


def run(words: Sequence[str], run_dir: Path, options: Options) -> int:
    """Submits one run on as many processes as the options say."""
    arguments = [*words, "--run_dir", str(run_dir)]
    if options.processes == 1:
        command = [sys.executable, "-m", "vsml", "train", *arguments]
    elif options.cluster == "slurm":
        command = [sys.executable, "-m", "vsml", "train", *arguments, "--distributed"]
    else:
        command = [sys.executable, str(LOCAL), *arguments, "--processes", str(options.processes)]
    return _submit([command], run_dir, options)


def launch(sweep_file: str, overrides: Sequence[str], sweep_dir: Path, options: Options | None = None) -> int:
    """Submits every point of a sweep: an array whose tasks are `vsml sweep FILE --index I`."""
    from vsml.sweep import load
    from vsml.sweep.runs import record

    options = options or Options()
    sweep = load(sweep_file, overrides)
    if not options.show:
        record(sweep, sweep_dir)  # for the report
    shared = [sys.executable, "-m", "vsml", "sweep", sweep_file, *overrides, "--sweep_dir", str(sweep_dir), "--index"]
    return _submit([[*shared, str(point.index)] for point in sweep.points], sweep_dir, options)


def _submit(commands: Sequence[Sequence[str]], directory: Path, options: Options) -> int:
    folder = directory.absolute() / "slurm"
    name = f"vsml-{directory.name}"
    if options.show or options.cluster == "slurm":
        slurm = Slurm(folder)
        slurm.update_parameters(**options.parameters(name))
        if options.show:
            print(slurm.script(len(commands)))
            print("\n".join(f"# task {index}: {shlex.join(command)}" for index, command in enumerate(commands)))
            return 0
        if submitit.SlurmExecutor.affinity() < 0:
            raise SystemExit("launch: there is no srun here: run this on a node of the cluster, or --print the script")
        jobs = _start(slurm, commands)
        print(f"submitted {jobs[0].job_id}{f' to {jobs[-1].job_id}' if jobs[1:] else ''}; logs in {folder}")
        return 0
    executor = {"local": submitit.LocalExecutor, "debug": submitit.DebugExecutor}[options.cluster](folder)
    executor.update_parameters(timeout_min=options.minutes)
    failed = 0
    for first in range(0, len(commands), options.parallel):
        jobs = _start(executor, commands[first : first + options.parallel])
        failed += sum(_has_failed(job) for job in jobs)
    print(f"{len(commands) - failed} of {len(commands)} done; logs in {folder}")
    return 1 if failed else 0


def _start(executor: Any, commands: Sequence[Sequence[str]]) -> list[Any]:
    with executor.batch():
        return [executor.submit(submitit.helpers.CommandFunction(list(command))) for command in commands]


def _has_failed(job: Any) -> bool:
    """Waits for a job, and says why where it has failed."""
    error = job.exception()
    if error is not None:
        print(f"launch: job {job.job_id}: {str(error).strip().splitlines()[-1]}", file=sys.stderr)
    return error is not None


if __name__ == "__main__":
    sys.exit(main())
