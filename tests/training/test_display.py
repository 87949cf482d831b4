"""What a terminal and a log show of work under way."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from runs import NO_EVALUATORS, TINY, train
from terminals import Terminal, take_over

from vsml.cli import main
from vsml.evaluation.telling import evaluating, listening, tell
from vsml.metrics import OF_THE_UPDATE
from vsml.training import display as displays
from vsml.training.display import Display, columns_of, duration, wrapped
from vsml.training.distributed import say
from vsml.training.progress import Pace

LONG = "reward_of_the_second_agent_before_discount"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Standard error is a terminal where everything is shown at once."""
    return take_over(monkeypatch)


def scalars(*names: str) -> dict[str, float]:
    return {**dict.fromkeys(OF_THE_UPDATE, 0), **{name: 0.125 * i + 1 for i, name in enumerate(names)}}


def line(width: int, *names: str, skipped: int = 0) -> str:
    pace = Pace(12_000)
    for done in (5000, 5001):
        pace.took(done)
    return pace.line({**scalars(*names), "skipped": skipped}, 1234.5, width)


THREE = ("loss", "accuracy_of_the_teacher", LONG, "fourth")
MIXTURE = ("loss", "accuracy", "loss/digits", "accuracy/digits", "loss/mnist", "accuracy/mnist")


@pytest.mark.parametrize("names", [("loss",), ("loss", "accuracy"), THREE, MIXTURE], ids=len)
def test_the_bar_fits_eighty_columns_and_keeps_its_numbers(terminal: Terminal, names: tuple[str, ...]):
    shown = line(79, *names)
    assert len(shown) <= 79
    assert shown.startswith("step 5001/12000  41%  ")
    values = [f" {1 + 0.125 * i:.3f}" for i, name in enumerate(names[:3]) if "/" not in name]
    assert re.findall(r" \d\.\d{3}\b", shown) == values
    assert shown.index("loss") < shown.index(values[0])


def test_the_bar_has_room_for_all_where_names_are_short(terminal: Terminal):
    shown = line(99, "loss", "accuracy")
    assert re.fullmatch(
        r"step 5001/12000  41%  █+░+  loss 1\.000  accuracy 1\.125  [\d:]+ left  1234\.5 lifetimes/s", shown
    )


@pytest.mark.parametrize("width", range(20, 120, 7))
def test_no_line_is_wider_than_the_terminal(terminal: Terminal, width: int):
    shown = line(width, *THREE, skipped=3)
    assert len(shown) <= width
    assert shown.startswith("step 5001/12000  41%"[:width])
    assert width < 45 or "loss 1.000" in shown
    assert width < 35 or "  3 skipped" in shown


def test_before_the_first_numbers_there_is_a_bar(terminal: Terminal):
    pace = Pace(700)
    pace.took(699)
    assert pace.line({}, None, 60).startswith("step 699/700  99%  ██")


def test_the_time_left_leaves_out_compiling_and_evaluations(monkeypatch: pytest.MonkeyPatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    pace = Pace(10)
    for done, at in ((1, 100.0), (2, 101.0), (3, 102.0)):
        now[0] = at
        pace.took(done)
    now[0] = 152.0
    pace.pause(50.0)
    assert "0:07 left" in pace.line({}, None, 100)


def test_lines_are_drawn_again_in_place_below_what_is_said(terminal: Terminal):
    shown = Display()
    shown.show("a 1", "b 1")
    shown.say("something happened")
    shown.show("a 2", "b 2", "c 2")
    shown.show("b 3")
    assert terminal.screen == ["something happened", "b 3"]
    shown.keep()
    shown.show("next")
    assert terminal.screen == ["something happened", "b 3", "next"]
    shown.close()
    assert terminal.screen == ["something happened", "b 3"]


def test_drawing_again_waits_its_turn(terminal: Terminal, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(displays, "REDRAW_SECONDS", 1000)
    shown = Display()
    for text in ("1", "2"):
        shown.show(text)
    assert terminal.screen == ["1"]
    shown.show("3", at_once=True)
    assert terminal.screen == ["3"]


def test_a_message_is_broken_between_words_on_a_terminal_alone(terminal: Terminal, monkeypatch, capfd):
    path = f"/{'very_' * 20}long/path"
    message = f"{'word ' * 30}in {path}"
    say(message)
    assert " ".join(text.strip() for text in terminal.screen) == message
    assert max(len(text) for text in terminal.screen if path not in text) < 80
    monkeypatch.undo()
    say(message)
    assert capfd.readouterr().err == f"{message}\n"


def test_a_log_gets_plain_lines_now_and_then(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    shown = Display()
    shown.show("compiling", at_once=True)
    shown.show("step 1")
    monkeypatch.setattr(displays, "PLAIN_SECONDS", 0)
    for _ in range(3):
        shown.show("step 2")
    shown.say("something happened")
    shown.close()
    assert capfd.readouterr().err == "compiling\nstep 2\nsomething happened\n"


def test_a_dumb_terminal_is_a_log(terminal: Terminal, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "dumb")
    Display().show("step 1")
    assert terminal.getvalue() == "step 1\n"


def test_an_evaluation_and_its_rivals_are_named(terminal: Terminal):
    shown = []
    with listening(lambda *told: shown.append(told)), evaluating("digits_plain"):
        tell(12, 32)
        with evaluating("SGD, 160 hidden"):
            tell(8, 32)
        tell(32, 32)
    assert shown == [("digits_plain", 12, 32), ("digits_plain: SGD, 160 hidden", 8, 32), ("digits_plain", 32, 32)]
    displays.tell_evaluation(*shown[0])
    (line,) = terminal.screen
    assert re.fullmatch("evaluating digits_plain 12/32  █+░+", line)


def test_nobody_need_listen():
    tell(1, 2)


def test_durations():
    assert [duration(s) for s in (0, 42.4, 62, 3900, 200_000)] == ["0:00", "0:42", "1:02", "1:05:00", "2 d 7 h"]


def test_text_is_wrapped_and_width_is_guessed():
    assert wrapped("one two-three", 9) == "one\n  two-three"
    assert wrapped("run `vsml report runs/x` now", 9) == "run\n  `vsml report runs/x`\n  now"
    assert columns_of(io.StringIO()) == 80


@pytest.mark.usefixtures("compiled")
def test_a_run_on_a_terminal(terminal: Terminal, tmp_path: Path):
    """Compiling, meta-steps, evaluations by name with their baselines, in lines that fit."""
    arguments = (
        "train.log_every=1",
        "train.evaluate_every=2",
        "evaluators.OnlineAccuracy.chunk=3",
        "EVALUATORS=[@plain/evaluators.OnlineAccuracy()]",
        "evaluators.OnlineAccuracy.baselines=@evaluators.Baselines()",
        "evaluators.Baselines.hidden=[0]",
        "evaluators.Baselines.sgd_learning_rates=[0.1]",
        "evaluators.Baselines.adam_learning_rates=[0.1]",
        "evaluators.Baselines.nearest_neighbour=False",
        "evaluators.Baselines.rls_features=[0]",
        "evaluators.Baselines.ridges=[1.0]",
    )
    train(tmp_path / "run", *arguments, "STEPS=3", "--devices", "1")
    told = re.sub(r"\x1b\[\d*[A-Z]|\r", "", terminal.getvalue()).splitlines()
    assert max(len(line) for line in told if str(tmp_path) not in line) < 80
    wanted = [
        "compiling the first meta-step",
        "step 1/3  33%",
        "step 3/3 100%",
        "evaluating digits_plain: SGD, 0 hidden 0/4",
        "evaluating digits_plain: Adam, 0 hidden 4/4",
        "evaluating digits_plain: nearest class mean 4/4",
        "evaluating digits_plain: RLS, inputs 4/4",
        "evaluated digits_plain in",
    ]
    first = [next(i for i, line in enumerate(told) if line.startswith(text)) for text in wanted]
    assert first == sorted(first)
    interim = told.index(next(line for line in told if line.startswith("evaluating digits_plain 4/4")))
    assert told[interim + 1].startswith("step 2/3  66%")
    logged = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    last = next(line for line in terminal.screen if line.startswith("step "))
    assert f"loss {logged['loss']:.3f}" in last
    assert f"accuracy {logged['accuracy']:.3f}" in last
    assert terminal.screen[-1].startswith("evaluated digits_plain in")


@pytest.mark.usefixtures("compiled")
def test_a_run_in_a_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    assert main(["train", *TINY, *NO_EVALUATORS, "STEPS=3", "--run_dir", str(tmp_path / "run")]) == 0
    said = capfd.readouterr().err
    assert "\r" not in said
    assert "\x1b" not in said
    assert re.search(r"^compiling the first meta-step\nstep 3/3 100%  loss \d\.\d{3}  accuracy", said, re.MULTILINE)
