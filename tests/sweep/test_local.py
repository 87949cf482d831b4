"""Sweeps on this machine: what is run, skipped, fails, and how it stops; most points here run a small script."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from runs import NO_EVALUATORS, TINY, call, summary
from terminals import take_over

import vsml
from vsml.errors import UserError
from vsml.runs.directory import RunDirectory, settings
from vsml.runs.lock import Occupied, RunLock
from vsml.sweep import Sweep, launch, load, local, run_all, run_point
from vsml.sweep.runs import record, row, status
from vsml.training.interruption import Interrupted

ROOT = Path(vsml.__file__).resolve().parents[1]
SWEEP = 'include "recipes/quickstart.gin"\naxes.learner = {"VSML": [], "Meta RNN": "learners/meta_rnn.gin"}\n'
OF_PAPER = {"recipe": "", "seconds": 1.0, "devices": 1, "evaluations": {}} | dict.fromkeys(
    ("num_meta_parameters", "num_learned_variables"), 1
)
PAPER = (
    f"OF_PAPER = {OF_PAPER}\n"
    + """
import json, os, pathlib, sys, time
words = sys.argv[1:]
directory, index = pathlib.Path(words[words.index("--sweep_dir") + 1]), int(words[words.index("--index") + 1])
point = json.loads((directory / "sweep.json").read_text())["points"][index]
run = directory / point["name"]
with (directory / "started").open("a") as file:
    file.write(f"{index} {sorted(os.sched_getaffinity(0))}\\n")
print("vsml: a stand-in for a point", file=sys.stderr)
if (run / "fail").exists():
    (run / "fail").unlink()
    sys.exit("vsml: it was asked to fail")
if (run / "crash").exists():
    os.kill(os.getpid(), 9)
if (run / "wait").exists():
    time.sleep(60)
(run / "summary.json").write_text(json.dumps({**OF_PAPER, "meta_steps": point["steps"]}))
(run / "config.json").write_text((directory / f"{index}.json").read_text())
"""
)


@pytest.fixture
def paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A sweep of four points that run in no time."""
    monkeypatch.chdir(tmp_path)
    Path("paper.py").write_text(PAPER)
    Path("my.gin").write_text(SWEEP + "axes.SEED = [0, 1]\n")
    monkeypatch.setattr(local, "COMMAND", (sys.executable, "-S", "paper.py"))
    monkeypatch.setattr(local, "_check", lambda points, directory: None)
    sweep = load("my.gin")
    directory = tmp_path / "sweep"
    for point in sweep.points:
        point.run_directory(directory).mkdir(parents=True)
        (directory / f"{point.index}.json").write_text(json.dumps(point.config.json))
    return sweep, directory


def started(directory: Path) -> list[int]:
    return sorted(int(line.split()[0]) for line in (directory / "started").read_text().splitlines())


def test_every_point_runs_once(paper, capfd):
    sweep, directory = paper
    run_all(sweep, directory, 2)
    assert started(directory) == [0, 1, 2, 3]
    assert "all 4 points are finished" in capfd.readouterr().err
    run_all(sweep, directory, 2)
    assert started(directory) == [0, 1, 2, 3]
    assert "4 of 4 points are finished already" in capfd.readouterr().err


def test_a_changed_setting_is_not_taken_for_finished(paper):
    sweep, directory = paper
    run_all(sweep, directory)
    assert status(sweep.points[0], directory)[0] == "finished"
    assert status(load("my.gin", ["LENGTH=7"]).points[0], directory)[0] == "other settings"
    assert status(load("my.gin", ["STEPS=7"]).points[0], directory)[0] == "unfinished"


def test_a_failed_point_does_not_stop_the_others_and_runs_again(paper, capfd):
    sweep, directory = paper
    failing, crashing = (sweep.points[i].run_directory(directory) for i in (0, 2))
    (failing / "fail").touch()
    (crashing / "crash").touch()
    with pytest.raises(local.Failed) as caught:
        run_all(sweep, directory, 2)
    assert caught.value.exit_code == 1
    assert str(caught.value).startswith("2 of 4 points failed; the same command runs them again")
    assert started(directory) == [0, 1, 2, 3]
    said = capfd.readouterr().err
    assert f"failed: {sweep.points[0].name}: it was asked to fail ({failing / 'output.log'})" in said
    assert f"failed: {sweep.points[2].name}: ended by SIGKILL, perhaps because memory ran out" in said
    assert status(sweep.points[0], directory) == ("failed", "it was asked to fail")
    (crashing / "crash").unlink()
    run_all(sweep, directory, 2)
    assert started(directory) == [0, 0, 1, 2, 2, 3]


SLOW = """
(run / "metrics.jsonl").write_text(json.dumps({"step": 310, "loss": 0.5, "skipped": 0}) + "\\n")
while not (directory / "seen").exists():
    time.sleep(0.02)
"""


def test_every_running_point_has_a_line(paper, monkeypatch: pytest.MonkeyPatch):
    sweep, directory = paper
    terminal = take_over(monkeypatch)
    before, now = PAPER.rsplit("(run / ", 2)[0], PAPER[len(PAPER.rsplit("(run / ", 2)[0]) :]
    Path("paper.py").write_text(before + SLOW + now)
    names = [point.name for point in sweep.points]

    def watch() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and sum("step 310/" in line for line in terminal.screen) < 2:
            time.sleep(0.02)
        seen.extend(terminal.screen)
        (directory / "seen").touch()

    seen: list[str] = []
    watcher = threading.Thread(target=watch)
    watcher.start()
    run_all(sweep, directory, 2)
    watcher.join()
    width = max(map(len, names[:2]))
    assert [line.split("%")[0] for line in seen] == [f"{name:<{width}}  step 310/700  44" for name in names[:2]]
    assert all(line.endswith("loss 0.500") and len(line) < 80 for line in seen)
    ended, after = terminal.screen[:4], "".join(terminal.screen[4:])
    assert {line.split()[1].rstrip(":") for line in ended} == set(names)
    assert after.startswith("all 4 points are finished; ")


def test_a_log_of_a_sweep_names_what_runs(paper, capfd):
    sweep, directory = paper
    run_all(sweep, directory)
    said = capfd.readouterr().err
    assert f"{sweep.points[0].name}  starting\n" in said
    assert "\x1b" not in said


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system knows no affinity")
def test_cores_are_shared_out(paper):
    sweep, directory = paper
    mine = sorted(os.sched_getaffinity(0))
    run_all(sweep, directory, 2)
    shares = {line.split(" ", 1)[1] for line in (directory / "started").read_text().splitlines()}
    assert shares <= {str(mine[0::2]), str(mine[1::2] or mine[:1])}


def test_more_jobs_than_cores_and_few_accelerators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(local.os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    workers = local._workers(3, tmp_path)
    assert [sorted(worker.cores) for worker in workers] == [[3], [5], [3]]
    assert [worker.environment["CUDA_VISIBLE_DEVICES"] for worker in workers] == ["0", "1", "0"]
    assert {worker.environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] for worker in workers} == {"0.45"}
    assert {worker.environment["JAX_COMPILATION_CACHE_DIR"] for worker in workers} == {str(tmp_path / ".compiled")}
    (alone,) = local._workers(1, tmp_path)
    assert alone.environment["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert sorted(alone.cores) == [3, 5]


def test_a_signal_stops_all_and_the_rest_is_run_later(paper, monkeypatch: pytest.MonkeyPatch):
    sweep, directory = paper
    for point in sweep.points[1:]:
        (point.run_directory(directory) / "wait").touch()

    def stop() -> None:
        while not (directory / "started").exists() or len(started(directory)) < 2:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=stop)
    thread.start()
    begun = time.monotonic()
    with pytest.raises(Interrupted, match=r"stopped by Ctrl-C with 1 of 4 points finished"):
        run_all(sweep, directory)
    thread.join()
    assert time.monotonic() - begun < 30
    assert started(directory) == [0, 1]
    assert not list(directory.rglob("failure.txt"))
    for wait in directory.rglob("wait"):
        wait.unlink()
    run_all(sweep, directory)
    assert started(directory) == [0, 1, 1, 2, 3]


def test_two_sweeps_do_not_share_a_directory(paper):
    sweep, directory = paper
    with local._lock(directory), pytest.raises(UserError, match="a sweep is running here"):
        run_all(sweep, directory)


def test_what_cannot_be_shows_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd):
    monkeypatch.chdir(tmp_path)
    Path("none.gin").write_text(
        "tasks.Classification.source = @sources.NpzFiles()\nsources.NpzFiles.images = 'none.npz'\n"
    )
    Path("my.gin").write_text('include "recipes/quickstart.gin"\naxes.data = {"here": [], "missing": "none.gin"}\n')
    outcome = call(capfd, "sweep", "my.gin")
    assert outcome.code == 2
    assert outcome.last_line.startswith("vsml: point data=missing: ")
    assert "none.npz" in outcome.last_line
    assert not list(Path("runs").rglob("output.log"))


def test_a_deployed_learner_of_another_shape_shows_before_anything_runs(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    other = ["train.deployed=@use/learners.VSML()", "use/learners.VSML.message_size=3"]
    Path("my.gin").write_text(f'include "recipes/quickstart.gin"\naxes.use = {{"itself": [], "other": {other}}}\n')
    outcome = call(capfd, "sweep", "my.gin")
    assert outcome.code == 2
    assert outcome.last_line.startswith("vsml: point use=other: train.deployed has meta-parameters of other shapes")
    assert not list(Path("runs").rglob("output.log"))


def test_all_points_have_the_same_hyperparameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("my.gin").write_text(SWEEP + "axes.transforms.RandomProjection.probability = [0.5, 1]\naxes.SEED = [0, 1]\n")
    sweep = load("my.gin")
    rows = [row(sweep, point) for point in sweep.points]
    assert len({tuple(row) for row in rows}) == 1
    assert {type(row["SEED"]) for row in rows} == {int}
    assert [row["probability"] for row in rows] == [0.5, 0.5, 1, 1] * 2
    assert [row["learner"] for row in rows] == ["VSML"] * 4 + ["Meta RNN"] * 4
    assert [row["CELL"] for row in rows] == ["@cells.LSTM()"] * 4 + ["-"] * 4
    assert "seed" not in rows[0], "SEED is there already"
    assert list(rows[0])[:4] == ["learner", "probability", "SEED", "STEPS"], (
        "first what differs, then what is asked for"
    )


def test_the_record_names_every_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("my.gin").write_text(SWEEP)
    record(load("my.gin", ["STEPS=3"]), tmp_path)
    content = json.loads((tmp_path / "sweep.json").read_text())
    assert content["axes"] == [{"name": "learner", "key": "", "labels": ["VSML", "Meta RNN"]}]
    assert content["points"][1] == {
        "name": "learner=Meta_RNN",
        "labels": {"learner": "Meta RNN"},
        "overrides": ["STEPS=3", "learners/meta_rnn.gin"],
        "steps": 3,
        "settings": settings(load("my.gin", ["STEPS=3"]).points[1].config),
    }


@pytest.mark.usefixtures("compiled")
def test_real_points_of_which_one_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd):
    """In processes of their own; then a report on what is there, and the failed one is run again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    recipe, *overrides = TINY
    Path("my.gin").write_text(f'include "{recipe}"\naxes.SEED = [0, 1]\n')
    arguments = ["sweep", "my.gin", *overrides, *NO_EVALUATORS, "STEPS=2"]
    blocked = tmp_path / "runs" / "my" / "seed=1"
    blocked.mkdir(parents=True)
    (blocked / "evaluations").touch()  # where a directory is wanted
    outcome = call(capfd, *arguments, "--jobs", "2")
    assert outcome.code == 1
    assert "[1/2] seed=" in outcome.err
    assert "failed: seed=1: " in outcome.err
    assert "the run directory cannot be written" in (blocked / "failure.txt").read_text()
    assert summary(tmp_path / "runs" / "my" / "seed=0")["peak_memory_bytes"]["host"] > 2**20
    assert json.loads((tmp_path / "runs" / "my" / "seed=0" / "point.json").read_text())["labels"] == {"seed": "0"}
    assert call(capfd, "report", "runs/my").code == 0
    assert "Runs: 1 failed, 1 finished." in Path("runs/my/report/report.md").read_text()
    (blocked / "evaluations").unlink()
    outcome = call(capfd, *arguments, "--index", "1")
    assert outcome.code == 0
    assert not (blocked / "failure.txt").exists()
    assert call(capfd, *arguments).err.endswith("compares them\n")


# A sweep that is run again with other overrides.


def trained(sweep: Sweep, directory: Path, steps: int | None = None) -> None:
    """Stand-ins get a checkpoint and the config that they were trained with, as a trainer leaves it."""
    for point in sweep.points:
        run = RunDirectory(point.run_directory(directory))
        done = steps or point.config.json["train"]["steps"]
        (run.checkpoints / str(done)).mkdir(parents=True)
        run.write_config(point.config)
        if steps is None:
            run.write_json("summary.json", {**OF_PAPER, "meta_steps": done})


def content(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["LENGTH=7"],
            r"4 point\(s\), such as learner=VSML,seed=0 \(train\.tasks\.length: 100 -> 7\), trained with",
        ),
        (["STEPS=900"], r"4 point\(s\), such as learner=VSML,seed=0 \(train\.steps: 700 -> 900\), trained for another"),
        (["STEPS=20", "sweep.extend=True"], r"\(train\.steps: 700 -> 20\), trained with other settings"),
    ],
)
@pytest.mark.parametrize("how", ["all", "one", "launch"])
def test_other_settings_are_refused_before_anything_is_written(paper, words: list[str], message: str, how: str):
    sweep, directory = paper
    trained(sweep, directory)
    record(sweep, directory)
    before = content(directory)
    other = load("my.gin", words)
    ways = {
        "all": lambda: run_all(other, directory),
        "one": lambda: run_point(other, 0, directory),
        "launch": lambda: launch(other, directory, "slurm"),
    }
    with pytest.raises(UserError, match=message if how != "one" else message.replace("4 point", "1 point")):
        ways[how]()
    assert content(directory) == before
    assert [status(point, directory)[0] for point in sweep.points] == ["finished"] * 4


def test_longer_points_are_trained_on_where_that_is_asked_for(paper):
    sweep, directory = paper
    trained(sweep, directory, 300)  # not at their end yet
    longer = load("my.gin", ["STEPS=900", "sweep.extend=True"])
    for point in longer.points:
        (directory / f"{point.index}.json").write_text(json.dumps(point.config.json))
    run_all(longer, directory)
    assert started(directory) == [0, 1, 2, 3]


def test_another_cadence_leaves_finished_points_finished(paper):
    sweep, directory = paper
    trained(sweep, directory)
    other = load("my.gin", ["train.log_every=3"])
    assert [status(point, directory)[0] for point in other.points] == ["finished"] * 4
    evaluated = load("my.gin", ["evaluators.OnlineAccuracy.seed=3"])
    assert [status(point, directory)[0] for point in evaluated.points] == ["unfinished"] * 4


def test_a_mistake_in_a_finished_point_does_not_make_it_a_failed_one(paper, monkeypatch: pytest.MonkeyPatch):
    sweep, directory = paper
    trained(sweep, directory)

    def fails(*_: object) -> None:
        raise UserError("its data are not there any more")

    monkeypatch.setattr("vsml.sweep.runs.trainer.train", fails)
    with pytest.raises(UserError, match="not there any more"):
        run_point(sweep, 0, directory)
    assert status(sweep.points[0], directory)[0] == "finished"
    (sweep.points[1].run_directory(directory) / "summary.json").unlink()
    with pytest.raises(UserError, match="not there any more"):
        run_point(sweep, 1, directory)
    assert status(sweep.points[1], directory) == ("failed", "its data are not there any more")


def test_a_point_that_is_trained_elsewhere_is_left_alone(paper, monkeypatch: pytest.MonkeyPatch):
    sweep, directory = paper
    run = sweep.points[2].run_directory(directory)
    held = RunLock(run, print)
    held.acquire()
    monkeypatch.undo()
    before = content(directory)
    for start in (lambda: run_point(sweep, 2, directory), lambda: local._check(list(sweep.points[2:3]), directory)):
        with pytest.raises(Occupied, match="trains here"):
            start()
    assert content(directory) == before
    held.close()
