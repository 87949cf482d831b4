"""Sweep files: their syntax, what is wrong with one, and which points they stand for."""

from __future__ import annotations

from pathlib import Path

import pytest
from runs import call

from vsml import config as configs
from vsml.config import gin_root
from vsml.errors import UserError
from vsml.sweep import load

SWEEPS = sorted(path.relative_to(gin_root()).as_posix() for path in (gin_root() / "sweeps").glob("*.gin"))
HEAD = 'include "recipes/quickstart.gin"\n'


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


def sweep(text: str, *words: str):
    """Reads a sweep file of that text behind its recipe."""
    Path("my.gin").write_text(HEAD + text)
    return load("my.gin", words)


def names(text: str, *words: str) -> list[str]:
    return [point.name for point in sweep(text, *words).points]


def test_a_product_with_its_last_axis_fastest():
    found = sweep("STEPS = 5\naxes.cells.LSTM.size = [4, 8]\naxes.SEED = [0, 1]\n", "LENGTH=7")
    assert [(p.index, p.name) for p in found.points] == [
        (0, "size=4,seed=0"),
        (1, "size=4,seed=1"),
        (2, "size=8,seed=0"),
        (3, "size=8,seed=1"),
    ]
    point = found.points[2]
    assert point.recipe == "recipes/quickstart.gin"
    assert point.overrides == ("STEPS=5", "LENGTH=7", "cells.LSTM.size=8", "SEED=0")
    assert point.labels == {"size": "8", "seed": "0"}
    assert point.run_directory(Path("runs/my")) == Path("runs/my/size=8,seed=0")
    experiment = configs.load(point.recipe, point.overrides).build()
    assert (experiment.steps, experiment.spec.length, experiment.seed) == (5, 7, 0)
    assert experiment.learner.cell.size == 8  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('axes.a = {"x": "STEPS=7\\nSEED=123", "y": []}\n', ()),
        ("axes.SEED = [0, 1]\n", ("STEPS=7\nLENGTH=9",)),
        ("", ("axes.SEED=[0, 1]\nSTEPS=7",)),
        ('axes.a = {"x": ["STEPS=7\\n# a word of mine", "LENGTH=9"]}\n', ()),
    ],
)
def test_a_line_break_drops_nothing_without_a_word(text: str, words: tuple[str, ...]):
    with pytest.raises(UserError, match=r"a line break ends the value of .*: give what follows as its own KEY=VALUE"):
        sweep(text, *words)


def test_index_to_point_never_changes():
    text = 'axes.a = {"x": [], "y": "LENGTH=9"}\naxes.SEED = [3, 1, 2]\n'
    first, second = sweep(text), sweep(text)
    assert [(p.name, p.overrides) for p in first.points] == [(p.name, p.overrides) for p in second.points]
    assert [first.point(i).name for i in range(6)] == [
        *("a=x,seed=3", "a=x,seed=1", "a=x,seed=2"),
        *("a=y,seed=3", "a=y,seed=1", "a=y,seed=2"),
    ]
    with pytest.raises(UserError, match=r"--index 6: my\.gin has the points 0\.\.5"):
        first.point(6)


def test_an_included_file_adds_its_axes():
    Path("axes.gin").write_text("axes.SEED = [3, 1]\nLENGTH = 9\n")
    mine = 'axes.a = {"x": [], "y": "STEPS=7"}\n'
    assert names(mine + 'include "./axes.gin"\n') == ["a=x,seed=3", "a=x,seed=1", "a=y,seed=3", "a=y,seed=1"]
    assert sweep(mine + 'include "./axes.gin"\n').points[0].overrides == ("LENGTH=9", "SEED=3")
    assert names('include "./axes.gin"\naxes.SEED = [5]\n') == ["seed=5"]
    Path("axes.gin").write_text('axes.SEED = [3, 1]\ninclude "./axes.gin"\n')
    with pytest.raises(UserError, match=r"\./axes\.gin:2: \./axes\.gin includes itself; remove this include"):
        sweep(mine + 'include "./axes.gin"\n')


def test_zipped_axes_advance_together():
    text = """
sweep.zip = ["length", "population"]
axes.LENGTH = [5, 6]
axes.SEED = [0, 1]
axes.POPULATION = [2, 4]
"""
    assert names(text) == [
        "length=5,seed=0,population=2",
        "length=5,seed=1,population=2",
        "length=6,seed=0,population=4",
        "length=6,seed=1,population=4",
    ]


def test_a_point_is_a_gin_file_or_a_list_of_bindings():
    text = 'axes.learner = ["learners/vsml.gin", ["learners/meta_rnn.gin", "learners.MetaRNN.hidden_size=8"]]\n'
    assert names(text) == ["learner=vsml", "learner=meta_rnn+8"]
    text = 'axes.learner = {"small": "cells.LSTM.size=4", "Meta RNN": ["learners/meta_rnn.gin", "LENGTH=9"]}\n'
    small, meta_rnn = sweep(text).points
    assert (small.name, meta_rnn.name) == ("learner=small", "learner=Meta_RNN")
    assert meta_rnn.overrides == ("learners/meta_rnn.gin", "LENGTH=9")
    assert meta_rnn.labels == {"learner": "Meta RNN"}


def test_values_of_every_kind():
    text = "axes.SHARING = [@sharing.Shared(), @sharing.Layerwise()]\naxes.learners.VSML.hidden = [[], [8, 4]]\n"
    assert names(text) == [
        *("sharing=Shared,hidden=none", "sharing=Shared,hidden=8-4"),
        *("sharing=Layerwise,hidden=none", "sharing=Layerwise,hidden=8-4"),
    ]
    assert names("axes.learners.VSML.feedback = ['delayed', 'backward_pass']\n") == [
        "feedback=delayed",
        "feedback=backward_pass",
    ]
    assert names("axes.optax.cosine_decay_schedule.init_value = [1e-2, 0.001]\n") == [
        "init_value=0.01",
        "init_value=0.001",
    ]


def test_axes_of_one_short_name_are_told_apart():
    text = "axes.cells.LSTM.size = [4]\naxes.size = ['LENGTH=5', 'LENGTH=6']\n"
    assert names(text) == ["cells.LSTM.size=4,size=5", "cells.LSTM.size=4,size=6"]


def test_the_command_line_changes_the_sweep():
    text = "axes.SEED = [0, 1]\naxes.LENGTH = [5]\n"
    assert names(text, "axes.SEED=[7]") == ["seed=7,length=5"]
    assert names(text, "axes.POPULATION=[2,4]", "sweep.zip=['seed','population']") == [
        "seed=0,length=5,population=2",
        "seed=1,length=5,population=4",
    ]


def test_what_makes_no_sense_together_is_refused_or_left_out():
    text = """
axes.learners.VSML.feedback = ["backward_pass", "delayed"]
axes.sharing.Shared.separate_backward = [False, True]
"""
    with pytest.raises(UserError) as caught:
        sweep(text)
    message = str(caught.value)
    assert "sharing.separate_backward has no backward pass to serve" in message
    assert message.endswith(
        "(in point feedback=delayed,separate_backward=True); sweep.skip_refused = True leaves such points out"
    )
    found = sweep(text + "sweep.skip_refused = True\n")
    assert [(p.index, p.name) for p in found.points] == [
        (0, "feedback=backward_pass,separate_backward=False"),
        (1, "feedback=backward_pass,separate_backward=True"),
        (2, "feedback=delayed,separate_backward=False"),
    ]
    assert [point.name for point in found.refused] == ["feedback=delayed,separate_backward=True"]
    assert "has no backward pass to serve" in found.refused[0].reason


def test_a_typo_is_never_left_out():
    with pytest.raises(UserError, match=r"my\.gin:2, a=4: cells\.LSTM has no field sise; did you mean size\?"):
        sweep("axes.a = ['cells.LSTM.sise=4', 'LENGTH=5']\nsweep.skip_refused = True\n")


def test_two_points_that_are_the_same_experiment():
    with pytest.raises(UserError, match=r"it is the same experiment as a=x \(in point a=y\)"):
        sweep("axes.a = {'x': 'LENGTH=5', 'y': 'LENGTH=5'}\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "my.gin: it names no axis, so there is nothing to sweep: add one, as in axes.SEED = [0, 1, 2]"),
        ("axes.SEED = 3\n", "my.gin:2: axes.SEED takes a list of points, or a dict of label and point, not 3"),
        ("axes.SEED = []\n", "my.gin:2: axes.SEED takes a list of points"),
        ("axes.SEED = [1, 1]\n", "my.gin:2: axes.SEED: two points are called '1': name them, as in {'label': point}"),
        ("axes.SEED = ['a']\n", "my.gin:2, seed=a: train.seed takes int, not 'a'"),
        ("axes.seed = [0]\n", "a point of axes.seed is a gin file, 'KEY=VALUE' or a list of both, not 0; did you mean"),
        ("axes.a = ['LENGTH']\n", "my.gin:2, a=LENGTH: LENGTH is neither a gin file nor KEY=VALUE"),
        ("axes.a = ['cells/lstn.gin']\n", "my.gin:2, a=lstn: no gin file cells/lstn.gin"),
        ("axes.cells.LSTM.sise = [4]\n", "my.gin:2, sise=4: cells.LSTM has no field sise; did you mean size?"),
        ("STEPSS = 4\naxes.SEED = [0]\n", "my.gin:2: nothing uses STEPSS; did you mean STEPS?"),
        ("SEED = 4\naxes.SEED = [0]\n", "my.gin:2: SEED is an axis of this sweep (my.gin:3): give its points, as in"),
        ("test/axes.tasks.Classification.length = [4]\n", "my.gin:2: an axis has no scope: write the scope into its"),
        ("sweep.tag = []\n", "my.gin:2: there is no setting sweep.tag of a sweep; did you mean tags?"),
        ("sweep.tags = 'a'\n", "my.gin:2: sweep.tags takes a list of str, not 'a'"),
        (
            "sweep.zip = ['sed']\naxes.SEED = [0]\n",
            "my.gin:2: sweep.zip names sed, which is not an axis; did you mean seed?",
        ),
        (
            "sweep.zip = ['seed', 'length']\naxes.SEED = [0]\naxes.LENGTH = [5, 6]\n",
            "my.gin: axes that are zipped need as many points each (seed has 1, length has 2)",
        ),
        (
            "import numpy\naxes.SEED = [0]\n",
            "my.gin:2: a sweep file cannot import modules: put `import numpy` into its recipe",
        ),
        ("axes.SEED = [0\n", "my.gin:2: a bracket or a string is not closed"),
        ("axes.SEED = [0]\naxes.SEED = [1]\n", "my.gin:3: axes.SEED is already set in my.gin:2; remove one of the two"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_its_place(text: str, message: str):
    with pytest.raises(UserError) as caught:
        sweep(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_sweep_file_begins_with_its_recipe():
    Path("my.gin").write_text("axes.SEED = [0]\n")
    with pytest.raises(UserError, match=r"my\.gin: a sweep file starts with the recipe"):
        load("my.gin")


def test_no_such_sweep(capfd):
    assert "there is no sweep sizess; did you mean sizes?" in call(capfd, "sweep", "sizess").err
    assert "sweep needs a sweep file; shipped are sweeps/" in call(capfd, "sweep").err


@pytest.mark.parametrize("file", SWEEPS)
def test_shipped_sweeps_have_a_header_and_points(file: str):
    lines = (gin_root() / file).read_text().splitlines()
    assert lines[0].startswith("# ")
    fields = [
        line[2:].partition(":")[0] for line in lines if line.startswith(("# Shows:", "# Command:", "# Overrides:"))
    ]
    assert fields == ["Shows", "Command", "Overrides"]
    found = load(file, ["STEPS=2"])
    assert len(found.points) > 1
    assert found.tags == (found.name,)
    assert "seed" in found.points[0].labels
    assert found.points[0].config.json["train"]["steps"] == 2


def test_list(capfd):
    Path("my.gin").write_text(HEAD + "STEPS = 5\nsweep.tags = ['a', 'b']\naxes.learners.VSML.hidden = [[], [8]]\n")
    outcome = call(capfd, "sweep", "my.gin", "LENGTH=7", "--list")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines() == [
        "my.gin: 2 points in runs/my; tags: a, b",
        "each is vsml train recipes/quickstart.gin STEPS=5 LENGTH=7 and",
        "0  hidden=none  not started  'learners.VSML.hidden=()'",
        "1  hidden=8     not started  'learners.VSML.hidden=(8,)'",
    ]
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--list", "--jobs", "2"], "--list and --jobs exclude each other"),
        (["--index", "0", "--launcher", "slurm"], "--index and --launcher exclude each other"),
        (["--index", "2"], "--index 2: my.gin has the points 0..1"),
        (["--jobs", "0"], "--jobs 0: set it to 1 or more"),
        (["--launcher", "cloud"], "launcher"),
    ],
)
def test_wrong_flags(flags: list[str], message: str, capfd):
    Path("my.gin").write_text(HEAD + "axes.SEED = [0, 1]\n")
    outcome = call(capfd, "sweep", "my.gin", *flags)
    assert outcome.code == 2
    assert message in outcome.last_line
