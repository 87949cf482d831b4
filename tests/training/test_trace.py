"""Traced meta-steps: where the trace lies, what is in it, and that the numbers of the run are those of any other."""

from __future__ import annotations

import gc
import signal
from contextlib import closing
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.profiler import ProfileData
from runs import ES, NO_EVALUATORS, TINY, assert_same_run, call, train

from vsml.training.parallel import Running
from vsml.training.trace import Trace

SMALL = (*ES, *NO_EVALUATORS)
pytestmark = [
    pytest.mark.usefixtures("compiled"),
    # Said by JAX's own reader of traces under Python 3.12; as an error it would end the process.
    pytest.mark.filterwarnings("ignore:builtin type event_stats:DeprecationWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def _nothing_compiled() -> None:
    """Every trace describes all programs that are alive, those of other tests too."""
    jax.clear_caches()
    gc.collect()


def sessions(directory: Path) -> dict[str, list[str]]:
    """The files of each session, as the tab of TensorBoard looks for them."""
    found = directory.glob("plugins/profile/*")
    return {path.name: sorted(file.name for file in path.iterdir()) for path in found}


def traced_steps(directory: Path, session: str, process: int = 0) -> list[int]:
    """The numbers of the meta-steps in a trace."""
    data = ProfileData.from_file(str(directory / f"plugins/profile/{session}/process_{process}.xplane.pb"))
    steps = []
    for plane in data.planes:
        for line in plane.lines:
            for event in line.events:
                if event.name == "meta_step":
                    steps.append(int(dict(event.stats)["step_num"]))  # pyright: ignore
    return sorted(steps)


def test_a_traced_run_has_the_numbers_of_another(tmp_path: Path):
    train(tmp_path / "plain", *SMALL, "STEPS=4")
    train(tmp_path / "traced", *SMALL, "STEPS=4", "train.profile_steps=[2,3]")
    assert_same_run(tmp_path / "plain", tmp_path / "traced")
    assert sessions(tmp_path / "plain") == {}
    assert sessions(tmp_path / "traced") == {"steps_2_3": ["process_0.xplane.pb"]}
    assert traced_steps(tmp_path / "traced", "steps_2_3") == [2, 3]
    assert not list((tmp_path / "traced").glob(".trace*"))


def test_a_resumed_run_traces_what_is_left(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    run = ("--run_dir", tmp_path / "run")
    assert call(capfd, "train", *TINY, *SMALL, "STEPS=1", *run).code == 0
    outcome = call(capfd, "train", *TINY, *SMALL, "STEPS=3", "train.profile_steps=[1,2]", *run)
    assert outcome.code == 0
    assert "\ntrain.profile_steps: meta-steps 1 to 1 are done already; 2 to 2 are traced\n" in outcome.err
    assert traced_steps(tmp_path / "run", "steps_2_2") == [2]
    outcome = call(capfd, "train", *TINY, *SMALL, "STEPS=4", "train.profile_steps=[1,3]", *run)
    assert outcome.code == 0
    assert "\ntrain.profile_steps: meta-steps 1 to 3 are done already; nothing is traced\n" in outcome.err
    assert list(sessions(tmp_path / "run")) == ["steps_2_2"]


@pytest.mark.parametrize("steps", ["[0,2]", "[3,2]", "[2,6]"])
def test_steps_that_do_not_exist_are_refused(capfd: pytest.CaptureFixture[str], steps: str):
    outcome = call(capfd, "train", *TINY, *NO_EVALUATORS, "STEPS=5", f"train.profile_steps={steps}", "--dry_run")
    assert outcome.code == 2
    assert f"train.profile_steps is {steps.replace(',', ', ')}: give the first and the last meta-step" in outcome.err
    assert outcome.err.count("\n") == 1


def trace_until(last: int, error: BaseException, directory: Path) -> None:
    """Steps that are traced from 2 on and end in an error, after the last one or in it."""
    with closing(Trace((2, 9), directory, start=0)) as trace:
        for done in range(1, 10):
            with trace.step(done):
                jax.block_until_ready(jnp.ones(3) + done)
                if done == last and isinstance(error, ValueError):
                    raise error
            if done == last:
                raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError()], ids=repr)
def test_a_trace_that_is_cut_short_is_whole(tmp_path: Path, error: BaseException):
    with pytest.raises(type(error)):
        trace_until(4, error, tmp_path)
    assert sessions(tmp_path) == {"steps_2_4": ["process_0.xplane.pb"]}
    assert traced_steps(tmp_path, "steps_2_4") == [2, 3, 4]
    jax.profiler.start_trace(tmp_path / "next")  # none is left open
    jax.profiler.stop_trace()


def test_an_interrupted_run_writes_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    wait = Running.wait

    def interrupted(self: Running) -> None:
        signal.raise_signal(signal.SIGTERM)
        wait(self)

    monkeypatch.setattr(Running, "wait", interrupted)
    arguments = ("STEPS=4", "train.profile_steps=[1,3]", "--run_dir", tmp_path / "run")
    assert call(capfd, "train", *TINY, *SMALL, *arguments).code == 128 + signal.SIGTERM
    assert traced_steps(tmp_path / "run", "steps_1_1") == [1]


def test_every_process_has_a_file_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for process in (0, 1):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        with closing(Trace((1, 1), tmp_path, start=0)) as trace, trace.step(1):
            jax.block_until_ready(jnp.ones(3) + 1)
    assert sessions(tmp_path) == {"steps_1_1": ["process_0.xplane.pb", "process_1.xplane.pb"]}
