"""Whatever goes wrong ends in one line that names cause and mend, and costs nothing that was saved."""

from __future__ import annotations

import errno
import gzip
import os
import re
import resource
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from runs import (
    ES,
    NO_EVALUATORS,
    TINY,
    Outcome,
    assert_same_run,
    call,
    final_state,
    finish,
    metrics,
    start,
    train,
)

from vsml import cli
from vsml.runs.saved import newest_step

pytestmark = pytest.mark.usefixtures("compiled")

PLAIN = ("EVALUATORS=[@plain/evaluators.OnlineAccuracy()]",)
OWN_TASKS = ("plain/evaluators.OnlineAccuracy.tasks=@plain/tasks.Classification",)
"""For the evaluator of `PLAIN`, in place of what is held out of meta-training."""


def the_line(outcome: Outcome) -> str:
    """The one line of a failure, which is all there is to read."""
    assert outcome.code == 2, outcome.err
    assert outcome.out == ""
    assert outcome.err.startswith("vsml: ")
    assert outcome.err.count("\n") == 1, outcome.err
    return outcome.err.removeprefix("vsml: ").rstrip("\n")


def the_last_line(outcome: Outcome) -> str:
    """The one line of a failure in the middle of a run, below what the run had said before."""
    assert outcome.code == 2, outcome.err
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    assert "Exception ignored" not in outcome.err
    assert outcome.last_line.startswith("vsml: ")
    assert outcome.err.count("vsml: ") == 1
    return outcome.last_line.removeprefix("vsml: ")


def refused(capfd: pytest.CaptureFixture[str], directory: Path, *arguments: str) -> str:
    """The line with which a run is refused, before anything is written."""
    line = the_line(call(capfd, "train", *TINY, "STEPS=2", *arguments, "--run_dir", directory / "run"))
    assert not (directory / "run").exists()
    return line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["LEARNER=@learners.VSLM()"], "unknown part @learners.VSLM(); did you mean learners.VSML?"),
        (["cels.LSTM.size=4"], "unknown part cels.LSTM; did you mean cells.LSTM?"),
        (["cells.LSTM.sise=4"], "cells.LSTM has no field sise; did you mean size?"),
        (["plian/tasks.HeldOut.length=4"], "no tasks.HeldOut is built in the scope plian; did you mean plain?"),
        (["STEP=4"], "nothing uses STEP; did you mean STEPS?"),
        (["cells.LSTM.size=four"], "cells.LSTM.size takes int, not 'four'"),
        (["STEPS=1.5"], "train.steps takes int, not 1.5"),
        (["optax.sgd.learning_rate=0.1"], "nothing uses optax.sgd.learning_rate"),
        (["cells/gruu.gin"], "no gin file cells/gruu.gin, neither shipped nor below the working directory"),
        (["STEPS"], "STEPS is neither a gin file nor KEY=VALUE"),
        (["STEPS=0"], "train.steps is 0: set it to 1 or more"),
        (["meta_optimizers.BPTT.chunk=0"], "chunk is 0: set it to 1 or more"),
        (["sources.Digits.split=validation"], "validation"),
        (["train.parallel=vmap"], "train.parallel takes 'pmap' or 'shard_map', not 'vmap'; did you mean pmap?"),
        (
            ["--devices", "3"],
            "a population of 4 cannot be spread evenly over 3 devices: set POPULATION=3 or 6, or --devices to a "
            "divisor of 4",
        ),
        (["--devices", "5"], "--devices 5: this machine has 4 cpu device(s); ask for 1..4"),
        (["--devices", "0"], "ask for 1..4"),
        (["--gin_bindings", "SEED = 7\nLENGTH = 123"], "command line: a line break ends the value of SEED"),
        (["POPULATION=100000000000"], "train.population is 100000000000: give a whole number of 32 bits"),
        (["SEED=99999999999999999999"], "train.seed is 99999999999999999999: give a whole number of 64 bits"),
        (["learners.VSML.output_bound=0"], "command line: learners.VSML.output_bound is 0: set it above 0 and finite"),
        (["learners.VSML.output_bound=1e999"], "learners.VSML.output_bound is inf: give a number of 32 bits"),
        (["cells.LSTM.gate_offset=1e300"], "cells.LSTM.gate_offset is 1e+300: give a number of 32 bits"),
        (["learners.VSML.hidden=[99999999999]"], "learners.VSML.hidden is 99999999999: give a whole number of 32 bits"),
        (["learners.VSML.hidden=[2000000000]"], "a layer of 64 x 2,000,000,000 neurons would have 128,000,000,000 sub"),
        (
            ["tasks.Classification.transforms=[@transforms.Resize]", "transforms.Resize.shape=[100000,100000]"],
            "a layer of 10,000,000,000 x 10 neurons would have 100,000,000,000 sub-RNNs, more than can be numbered",
        ),
        (["tasks.Classification.num_tasks=99999999999"], "num_tasks is 99999999999: give a whole number of 32 bits"),
        (["cells.LSTM.size=0"], "command line: cells.LSTM.size is 0"),
        (
            ["learners/gradient_descent.gin"],
            "learners.GradientDescent has no meta-parameters, so there is nothing to meta-train: choose another",
        ),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_written(
    arguments: list[str], message: str, tmp_path: Path, capfd, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("learners").mkdir()
    Path("learners/gradient_descent.gin").write_text(
        "LEARNER = @learners.GradientDescent()\n"
        "learners.GradientDescent.optimizer = @optax.sgd()\n"
        "optax.sgd.learning_rate = 0.1\n"
    )
    assert message in refused(capfd, tmp_path, *arguments)


def test_a_missing_recipe_and_a_missing_include(tmp_path: Path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    missing = the_line(call(capfd, "train", "quickstrat"))
    assert missing == "command line: there is no recipe quickstrat; did you mean quickstart?"
    Path("mine.gin").write_text('include "recipes/quickstart.gin"\ninclude "cells/lstmm.gin"\n')
    line = the_line(call(capfd, "train", "mine.gin"))
    assert line.startswith("mine.gin:2: no gin file cells/lstmm.gin")
    assert "did you mean cells/lstm.gin?" in line


# Data.


def idx(array: np.ndarray) -> bytes:
    """An array of bytes as a gzipped idx file."""
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes())


def of(data: Path, scope: str = "") -> tuple[str, ...]:
    """Overrides that choose a pair of files of one's own."""
    return (
        f"{scope}tasks.Classification.source=@sources.IdxFiles",
        f"sources.IdxFiles.images={data.name}/images.gz",
        f"sources.IdxFiles.labels={data.name}/labels.gz",
    )


@pytest.fixture
def data(tmp_path: Path, monkeypatch) -> Path:
    """A data directory of one's own with 60 images of 4x4 pixels."""
    folder = tmp_path / "data" / tmp_path.name  # a process reads a file of one name once
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    (folder / "images.gz").write_bytes(idx(rng.integers(0, 256, (60, 4, 4))))
    (folder / "labels.gz").write_bytes(idx(np.arange(60) % 10))
    monkeypatch.setenv("VSML_DATA_DIR", str(tmp_path / "data"))
    return folder


def test_data_of_ones_own_is_read(data: Path, capfd):
    outcome = call(capfd, "train", *TINY, *NO_EVALUATORS, *of(data), "STEPS=1", "--dry_run")
    assert (outcome.code, outcome.err) == (0, "")
    assert "4x4x1 inputs, 10 outputs" in outcome.out


@pytest.mark.parametrize("file", ["images.gz", "labels.gz"])
def test_a_missing_data_file_is_named(data: Path, file: str, tmp_path: Path, capfd):
    (data / file).unlink()
    line = refused(capfd, tmp_path, *of(data))
    assert f"data file '{data.name}/{file}' does not exist (looked for {data / file} or " in line
    assert "mend the path, or set VSML_DATA_DIR" in line


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda whole: whole[: len(whole) // 2], "is a corrupt gzip file"),
        (lambda whole: whole[:-9] + bytes([whole[-9] ^ 255]) + whole[-8:], "is a corrupt gzip file"),
        (lambda whole: gzip.compress(gzip.decompress(whole)[:-7]), "is corrupt: 969 bytes instead of 976"),
        (lambda whole: gzip.compress(gzip.decompress(whole)[:9]), "is truncated inside its header"),
        (lambda whole: b"<html>not found</html>", "is not an idx file"),
        (lambda whole: b"", "is not an idx file (it starts with nothing)"),
    ],
    ids=["truncated", "flipped", "short", "header", "html", "empty"],
)
def test_a_corrupt_data_file_is_named(data: Path, damage: Any, message: str, tmp_path: Path, capfd):
    path = data / "images.gz"
    path.write_bytes(damage(path.read_bytes()))
    line = refused(capfd, tmp_path, *of(data))
    assert f"{path} {message}" in line


def test_a_published_file_that_is_not_as_published_is_named(data: Path, tmp_path: Path, capfd):
    mnist = data.parent / "mnist"
    mnist.mkdir()
    for part in ("images-idx3", "labels-idx1"):
        (mnist / f"train-{part}-ubyte.gz").write_bytes(idx(np.zeros((3, 28, 28))))
    line = refused(capfd, tmp_path, "tasks/mnist.gin")
    assert f"{mnist / 'train-images-idx3-ubyte.gz'} is corrupt (its MD5 is not f68b3c2d" in line
    assert "replace it, or remove it for a download" in line


def test_missing_data_of_an_evaluator_shows_before_days_of_training(data: Path, tmp_path: Path, capfd):
    (data / "labels.gz").unlink()
    overrides = (*OWN_TASKS, *of(data, scope="plain/"))
    line = the_line(call(capfd, "train", *TINY, *PLAIN, *overrides, "STEPS=1", "--run_dir", tmp_path / "run"))
    assert f"data file '{data.name}/labels.gz' does not exist" in line
    assert not (tmp_path / "run").exists()


def test_an_array_that_is_missing_in_an_npz_file_shows_before_anything_is_trained(data: Path, tmp_path: Path, capfd):
    np.savez(data / "all.npz", x=np.zeros((60, 4, 4), np.uint8), y=np.arange(60) % 10)
    chosen = (
        *OWN_TASKS,
        "plain/tasks.Classification.source=@sources.NpzFiles",
        f"sources.NpzFiles.images={data.name}/all.npz",
    )
    line = refused(capfd, tmp_path, *PLAIN, *chosen, "sources.NpzFiles.images_key=x")
    assert (
        line
        == f"{data / 'all.npz'} has no array 'arr_0': it holds x, y; set sources.NpzFiles.labels_key to one of them"
    )


# Memory.


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 1.86 TiB"),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\n allocating 9 bytes."),
    ],
    ids=["numpy", "xla"],
)
def test_missing_memory_says_what_to_lower(error: Exception, tmp_path: Path, capfd, monkeypatch):
    def fail(*arguments: Any) -> Any:
        raise error

    monkeypatch.setattr("vsml.training.trainer.build_meta_step", fail)
    line = the_last_line(call(capfd, "train", *TINY, *NO_EVALUATORS, "STEPS=1", "--run_dir", tmp_path / "run"))
    assert line.startswith(f"out of memory ({' '.join(str(error).split())}); what was saved is intact: lower what is ")
    for what in ("chunk", "POPULATION", "LENGTH"):
        assert what in line


def test_another_error_of_a_library_is_not_taken_for_it(monkeypatch):
    monkeypatch.setattr("vsml.shipped.recipes", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["recipes"])


INTERRUPTED = """
import os, signal, sys

interrupted_at = sys.argv[1]

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == interrupted_at:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
from vsml.__main__ import main
sys.argv = ['vsml', 'parts', 'cells']
sys.exit(main())
"""


@pytest.mark.parametrize("module", ["vsml.cli", "jaxlib"])
def test_ctrl_c_during_the_first_imports_is_one_line(module: str):
    """An exception in the middle of a native library's import becomes another one, or is swallowed."""
    command = [sys.executable, "-c", INTERRUPTED, module]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (130, "vsml: interrupted; what was saved is intact\n")


# The run directory.


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path, capfd):
    (tmp_path / "file").touch()
    for directory in (tmp_path / "file" / "run", Path("/proc/vsml")):
        line = the_line(call(capfd, "train", *TINY, *NO_EVALUATORS, "STEPS=1", "--run_dir", directory))
        assert line.startswith(f"{directory}: the run directory cannot be written (")
        assert line.endswith("choose another --run_dir, or change its permissions")


@pytest.fixture(scope="module")
def finished(compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; tests work on copies."""
    directory = tmp_path_factory.mktemp("finished") / "run"
    train(directory, *ES, *NO_EVALUATORS, "STEPS=3", *OFTEN)
    return directory


OFTEN = ("train.log_every=1", "train.checkpoint_every=1")


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def go_on(capfd: pytest.CaptureFixture[str], run: Path, *arguments: str) -> Outcome:
    return call(capfd, "train", *TINY, *ES, *NO_EVALUATORS, "STEPS=5", *OFTEN, *arguments, "--run_dir", run)


def test_a_damaged_config_of_an_earlier_run_is_named(run: Path, capfd):
    (run / "config.json").write_text((run / "config.json").read_text()[:100])
    line = the_line(go_on(capfd, run))
    assert line.startswith(f"{run / 'config.json'}: cannot be read (")
    assert line.endswith("restore it, or choose another --run_dir")


def test_a_damaged_checkpoint_is_named_and_once_deleted_the_run_goes_on(run: Path, finished: Path, capfd):
    for array in (run / "checkpoints" / "3" / "state" / "d").iterdir():
        array.write_bytes(array.read_bytes()[:50])
    line = the_last_line(go_on(capfd, run))
    assert line.startswith(f"{run / 'checkpoints' / '3'}: this checkpoint cannot be restored (")
    assert line.endswith("Choose another --run_dir, or delete this checkpoint to go on from an older one")
    shutil.rmtree(run / "checkpoints" / "3")
    train(run, *ES, *NO_EVALUATORS, "STEPS=3", *OFTEN)
    assert_same_run(run, finished)


# A full disk.


@pytest.fixture(scope="module")
def straight(compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `run` should end like."""
    directory = tmp_path_factory.mktemp("straight") / "run"
    train(directory, *ES, *NO_EVALUATORS, "STEPS=5", *OFTEN)
    return directory


def goes_on_from(step: int, run: Path, straight: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The newest checkpoint is good, and with room again the same command ends as if nothing had been."""
    assert final_state(run)[0] == step
    outcome = go_on(capfd, run)
    assert outcome.code == 0
    assert f"resumed after {step} meta-steps" in outcome.err
    assert_same_run(run, straight)


@pytest.mark.parametrize("when", ["save", "wait_until_finished"])
def test_no_room_for_a_checkpoint(run: Path, straight: Path, capfd, monkeypatch, when: str):
    method = getattr(ocp.CheckpointManager, when)

    def full(self: ocp.CheckpointManager, *arguments: Any, **options: Any) -> Any:
        if (when, *arguments[:1]) in (("save", 5), ("wait_until_finished",)):
            raise OSError(errno.ENOSPC, "No space left on device")
        return method(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(ocp.CheckpointManager, when, full)
        line = the_last_line(go_on(capfd, run))
    assert line.startswith(
        f"{run / 'checkpoints'}: a checkpoint could not be written (the disk is full); the one of step "
    )
    assert line.endswith("is intact: free space or choose another --run_dir and run the same command again")
    newest = re.search(r"the one of step (\d) is intact", line)
    assert newest is not None
    goes_on_from(int(newest[1]), run, straight, capfd)


def test_no_room_for_metrics(run: Path, straight: Path, capfd, monkeypatch):
    def full(content: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("vsml.training.writers.without_non_finite", full)
        line = the_last_line(go_on(capfd, run))
    assert line.startswith(f"{run / 'metrics.jsonl'}: cannot be written (No space left on device): free space")
    goes_on_from(3, run, straight, capfd)


def test_files_that_may_not_grow(run: Path, straight: Path, capfd):
    """A quota, in a process of its own: not even the config fits."""
    arguments = ("train", *TINY, *ES, *NO_EVALUATORS, "STEPS=5", *OFTEN, "--run_dir", run)
    process = start(*arguments, JAX_ENABLE_COMPILATION_CACHE="false")  # half an entry would spoil it for others
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1000, 1000))
    line = the_last_line(finish(process))
    assert line.startswith(f"{run}/")
    assert "cannot be written (File too large): free space" in line
    goes_on_from(3, run, straight, capfd)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB, where the machine lets us have one."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(path)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can be mounted by root alone")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_disk_that_fills_while_a_run_is_under_way(small_disk: Path, finished: Path, straight: Path, capfd):
    run = Path(shutil.copytree(finished, small_disk / "run"))
    room = shutil.disk_usage(small_disk).free - 100_000  # the rest is enough for what comes before a checkpoint
    (small_disk / "filler").write_bytes(bytes(room))
    process = start("train", *TINY, *ES, *NO_EVALUATORS, "STEPS=5", *OFTEN, "--run_dir", run)
    line = the_last_line(finish(process))
    checkpoint, other = (
        f"{run / 'checkpoints'}: a checkpoint could not be written (the disk",
        f"{run}: cannot be written",
    )
    assert line.startswith((checkpoint, other))  # whichever comes first: a checkpoint, or TensorBoard's file before it
    step = newest_step(run / "checkpoints")
    assert step in (3, 4)
    (small_disk / "filler").unlink()
    goes_on_from(step, run, straight, capfd)


# Meta-gradients that are not finite.


POISON = '''
"""Objectives that are not a number: always, or for lifetimes that begin with an example of class 0."""

from dataclasses import dataclass

import jax.numpy as jnp

from vsml.objectives import OnlineMean


@dataclass(frozen=True)
class Poisoned(OnlineMean):
    """The mean loss times NaN, in some lifetimes or in all."""

    always: bool = True

    def evaluate(self, learner, params, state, task, key, segment=None):
        poisoned = self.always | (task.y[0, 0, 0] == 1)
        loss, metrics = super().evaluate(learner, params, state, task, key, segment)
        loss *= jnp.where(poisoned, jnp.nan, 1.0)
        return loss, {**metrics, "loss": loss}
'''


@pytest.fixture
def poison(tmp_path: Path, monkeypatch) -> tuple[str, ...]:
    """A user's own objective, named in a gin file of theirs."""
    monkeypatch.chdir(tmp_path)
    Path("poisonous_objectives.py").write_text(POISON)
    Path("poison.gin").write_text("import poisonous_objectives\nOBJECTIVE = @objectives.Poisoned()\n")
    return ("poison.gin", *NO_EVALUATORS, "train.log_every=1")


def test_meta_gradients_that_are_never_finite_end_the_run(poison, tmp_path: Path, capfd):
    arguments = ("train", *TINY, *ES, *poison, "STEPS=9", "--run_dir", tmp_path / "run")
    outcome = call(capfd, *arguments, "train.max_non_finite=3", "train.checkpoint_every=2")
    line = the_last_line(outcome)
    assert line == (
        "the last 3 meta-gradients up to step 3 were not finite, so meta-training has stopped; the checkpoint of step "
        "2 is intact: lower the learning rate or clip the meta-gradient (optax.clip_by_global_norm), or raise "
        "train.max_non_finite"
    )
    entries = metrics(tmp_path / "run")
    assert [(entry["skipped"], entry["skipped_in_row"]) for entry in entries] == [(1, 1), (2, 2), (3, 3)]
    assert [(entry["loss"], entry["update_norm"]) for entry in entries] == [(None, 0.0)] * 3
    assert len({entry["parameter_norm"] for entry in entries}) == 1  # nothing has moved
    again = call(capfd, *arguments, "train.max_non_finite=5", "train.checkpoint_every=2")
    assert "up to step 5 were not finite" in the_last_line(again)  # allowed to change, and counted across the resume


def test_that_is_noticed_without_waiting_for_the_log(poison, tmp_path: Path, capfd):
    arguments = (*TINY, *ES, *poison, "STEPS=50", "train.log_every=50", "train.max_non_finite=4")
    line = the_last_line(call(capfd, "train", *arguments, "--run_dir", tmp_path / "run"))
    assert "the last 4 meta-gradients up to step 4 were not finite" in line
    assert "no checkpoint was written yet" in line


def test_a_run_that_never_moved_has_failed(poison, tmp_path: Path, capfd):
    outcome = call(capfd, "train", *TINY, *ES, *poison, "STEPS=4", "--run_dir", tmp_path / "run")
    line = the_last_line(outcome)
    assert line.startswith("the last 4 meta-gradients up to step 4 were not finite, so meta-training has stopped; no ")
    assert line.endswith("or clip the meta-gradient (optax.clip_by_global_norm)")  # fewer than train.max_non_finite
    assert not (tmp_path / "run" / "summary.json").exists()


def test_some_that_are_not_finite_are_skipped_and_counted(poison, tmp_path: Path, capfd):
    arguments = (*TINY, *poison, "objectives.Poisoned.always=False", "STEPS=12", "train.checkpoint_every=6")
    outcome = call(capfd, "train", *arguments, "--run_dir", tmp_path / "run")
    assert outcome.code == 0
    entries = metrics(tmp_path / "run")
    assert len(entries) == 12
    skipped = 0
    for entry, before in zip(entries, [None, *entries[:-1]], strict=True):
        finite = entry["loss"] is not None
        skipped += not finite
        assert entry["skipped"] == skipped
        assert (entry["skipped_in_row"] == 0) == finite
        if before is not None:
            assert (entry["parameter_norm"] == before["parameter_norm"]) == (not finite)
            assert (entry["smoothed_loss"] == before["smoothed_loss"]) == (not finite)
    assert 0 < skipped < 12
    assert f"{skipped} of 12 meta-gradients were not finite and were skipped\n" in outcome.err
    _, (state, _) = final_state(tmp_path / "run")
    assert int(state.skipped) == skipped
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.optimizer))
