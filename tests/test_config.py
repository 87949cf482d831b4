"""The door to gin: every mistake of a user ends in one line with its place; what is right is built as gin builds it."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any

import gin
import jax.numpy as jnp
import numpy as np
import pytest

import vsml
import vsml.evaluation
from vsml import config
from vsml.errors import UserError

TOY_PARTS = '''
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from vsml.cells import Cell
from vsml.evaluation.base import Evaluator
from vsml.learners.base import Learner
from vsml.meta_optimizers.base import MetaOptimizer
from vsml.objectives.base import Objective
from vsml.tasks.base import Source, TaskDistribution


def toy(base):
    return type(base.__name__, (base,), dict.fromkeys(base.__abstractmethods__))


@dataclass(frozen=True)
class Toy(toy(Cell)):
    """A toy cell."""

    size: int = 16
    offset: float = 1.0
    mode: Literal["mean", "sum"] = "mean"
    bound: float | None = None
    gated: bool = False

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size is {self.size}:\\n  set it to 1 or more")


@dataclass(frozen=True)
class Other(toy(Cell)):
    """Another toy cell."""

    size: int = 4
    inner: Cell | None = None


@dataclass(frozen=True)
class ToyLearner(toy(Learner)):
    cell: Cell
    widths: tuple[int, ...] = ()
    default_cell: Cell = Toy(size=3)
    squash: Callable[[float], float] = abs


@dataclass(frozen=True)
class Plain(toy(Learner)):
    rate: float = 0.1


@dataclass(frozen=True)
class ToySource(toy(Source)):
    split: str = "all"


@dataclass(frozen=True)
class ToyTasks(toy(TaskDistribution)):
    source: Source
    length: int


@dataclass(frozen=True)
class Loose:
    """No subclass of anything."""

    size: int = 1


class Thawed(toy(Cell)):
    pass


@dataclass(frozen=True)
class Unfinished(Cell):
    pass


@dataclass(frozen=True)
class ToyObjective(toy(Objective)):
    pass


@dataclass(frozen=True)
class ToyGradient(toy(MetaOptimizer)):
    pass


@dataclass(frozen=True)
class ToyEvaluator(toy(Evaluator)):
    name: str
    tasks: TaskDistribution
    run = None
'''

RECIPE = """# A toy experiment.
import toy_parts
include 'experiment.gin'
LEARNER = @learners.ToyLearner()
learners.ToyLearner.cell = %CELL
CELL = @cells.Toy()
TASKS = @tasks.ToyTasks()
tasks.ToyTasks.source = @sources.ToySource()
tasks.ToyTasks.length = %LENGTH
OBJECTIVE = @objectives.ToyObjective()
META_OPTIMIZER = @meta_optimizers.ToyGradient()
OPTIMIZER = @optax.sgd()
optax.sgd.learning_rate = 0.5
STEPS = 10
POPULATION = 4
LENGTH = 20
"""
"""16 lines: what a test adds starts at line 17."""

EVALUATORS = """\
EVALUATORS = [@plain/evaluators.ToyEvaluator(), @hard/evaluators.ToyEvaluator()]
plain/evaluators.ToyEvaluator.name = 'plain'
hard/evaluators.ToyEvaluator.name = 'hard'
evaluators.ToyEvaluator.tasks = @tasks.ToyTasks()
hard/tasks.ToyTasks.length = 99
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a recipe and a module of parts."""
    (tmp_path / "toy_parts.py").write_text(TOY_PARTS)
    (tmp_path / "toy.gin").write_text(RECIPE)
    (tmp_path / "gru.gin").write_text("CELL = @cells.Other()\n")
    (tmp_path / "plain.gin").write_text("LEARNER = @learners.Plain()\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(extra: str = "", *overrides: str) -> config.Config:
    """The toy recipe with some lines added and some overrides."""
    Path("toy.gin").write_text(RECIPE + extra)
    return config.load("toy.gin", overrides)


def built(resolved: config.Config) -> Any:
    """The experiment; its parts are known by their bases only, hence no type."""
    return resolved.build()


def fields_of(json_of_parts: Any) -> Any:
    """The JSON of parts without their names: what `dataclasses.asdict` gives for the parts once they are built."""
    if isinstance(json_of_parts, dict):
        return {name: fields_of(value) for name, value in json_of_parts.items() if name != "part"}
    return [fields_of(value) for value in json_of_parts] if isinstance(json_of_parts, list) else json_of_parts


def complaint(extra: str, *overrides: str) -> str:
    with pytest.raises(UserError) as error:
        load(extra, *overrides)
    return str(error.value)


MISTAKES = {
    # Names.
    "part": (
        "learners.ToyLearner.default_cell = @cells.Tyo()",
        (),
        "toy.gin:17: unknown part @cells.Tyo(); did you mean cells.Toy?",
    ),
    "part without axis": (
        "",
        ("CELL=@Other()",),
        "command line: unknown part @Other(); did you mean cells.Other?",
    ),
    "part of a binding": (
        "cell.Toy.size = 3",
        (),
        "toy.gin:17: unknown part cell.Toy; did you mean cells.Toy?",
    ),
    "part of optax": (
        "",
        ("OPTIMIZER=@optax.adma",),
        "command line: unknown part @optax.adma(); did you mean optax.adam?",
    ),
    "no transformation": (
        "",
        ("OPTIMIZER=@optax.global_norm()",),
        "command line: unknown part @optax.global_norm(); did you mean optax.clip_by_global_norm?",
    ),
    "abstract part": (
        "",
        ("CELL=@cells.Unfinished",),
        "command line: unknown part @cells.Unfinished(); toy_parts.Unfinished is not a part: it does not define init, "
        "initial_state, messages, update",
    ),
    "part that can change": (
        "",
        ("CELL=@cells.Thawed",),
        "command line: unknown part @cells.Thawed(); toy_parts.Thawed is not a part: it is not decorated with "
        "@dataclass(frozen=True)",
    ),
    "part in place of a field": (
        "cells.Toy = 3",
        (),
        "toy.gin:17: cells.Toy is a part, not a field; to choose it, set a macro or a field to @cells.Toy()",
    ),
    "part inside a list": (
        "train.evaluators = [@evaluators.ToyEvaluater()]",
        (),
        "toy.gin:17: unknown part @evaluators.ToyEvaluater(); did you mean evaluators.ToyEvaluator?",
    ),
    "field": (
        "",
        ("cells.Toy.sise=3",),
        "command line: cells.Toy has no field sise; did you mean size?",
    ),
    "field of the root": (
        "train.step = 3",
        (),
        "toy.gin:17: train has no field step; did you mean steps?",
    ),
    "field of optax": (
        "optax.sgd.momentun = 0.9",
        (),
        "toy.gin:17: optax.sgd has no field momentun; did you mean momentum?",
    ),
    "macro": (
        "",
        ("STPES=3",),
        "command line: nothing uses STPES; did you mean STEPS?",
    ),
    "macro in lower case": (
        "",
        ("steps=3",),
        "command line: steps is neither a macro (UPPER_CASE) nor a field (axis.Part.field); did you mean STEPS?",
    ),
    "macro in a value": (
        "cells.Toy.size = %LENGHT",
        (),
        "toy.gin:17: LENGHT is not set; did you mean LENGTH of toy.gin:16?",
    ),
    "macro with a scope": (
        "wide/STEPS = 3",
        (),
        "toy.gin:17: wide/STEPS is not a macro: macros have no scope; a field is named scope/axis.Part.field",
    ),
    "scope": (
        EVALUATORS + "hrad/evaluators.ToyEvaluator.name = 'x'",
        (),
        "toy.gin:22: nothing uses hrad/evaluators.ToyEvaluator.name: no evaluators.ToyEvaluator is built in the scope "
        "hrad; did you mean hard?",
    ),
    "scope that nobody builds": (
        "wide/cells.Toy.size = 3",
        (),
        "toy.gin:17: nothing uses wide/cells.Toy.size: no cells.Toy is built in the scope wide; to build one there, "
        "write @wide/cells.Toy() where it is used",
    ),
    "scope of a needed field": (
        EVALUATORS.replace("hard/evaluators.ToyEvaluator.name", "hrad/evaluators.ToyEvaluator.name"),
        (),
        "toy.gin:17: evaluators.ToyEvaluator needs name; plain/evaluators.ToyEvaluator.name of toy.gin:18 is for "
        "another scope, this is hard/evaluators.ToyEvaluator",
    ),
    # Syntax.
    "bare word in a file": (
        "cells.Toy.mode = sum",
        (),
        "toy.gin:17: cannot read sum; a string needs quotes, a part an @ and (), a macro a %",
    ),
    "no value": (
        "cells.Toy.size =",
        (),
        "toy.gin:17: cannot be read: Unable to parse value",
    ),
    "no statement": (
        "cells.Toy.size 3",
        (),
        "toy.gin:17: cannot be read: Couldn't parse statement, expected ':' or '='",
    ),
    "two values": (
        "cells.Toy.size = 3 4",
        (),
        "toy.gin:17: cannot be read: Expected newline",
    ),
    "open bracket": (
        "EVALUATORS = [\n",
        (),
        "toy.gin:17: a bracket or a string is not closed",
    ),
    "not built": (
        "learners.ToyLearner.default_cell = @cells.Other",
        (),
        "toy.gin:17: @cells.Other names a part without building it; write @cells.Other()",
    ),
    "neither file nor binding": (
        "",
        ("cells/lstm",),
        "command line: cells/lstm is neither a gin file nor KEY=VALUE; did you mean cells/lstm.gin?",
    ),
    "key": (
        "",
        ("cells/=3",),
        "command line: cells/ is not a key; a key is a macro, such as STEPS, or axis.Part.field",
    ),
    "no value on the command line": (
        "",
        ("STEPS=",),
        "command line: STEPS= gives no value; write STEPS=VALUE",
    ),
    "several words": (
        "",
        ("sources.ToySource.split=a b",),
        "command line: cannot read the value of sources.ToySource.split=a b; a string of several words needs quotes",
    ),
    "a dict without brackets": (
        "",
        ("sources.ToySource.split='a':1",),
        "command line: cannot read the value of sources.ToySource.split='a':1; a string of several words needs quotes",
    ),
    "a slice where a number belongs": (
        "",
        ("STEPS=3:5",),
        "command line: train.steps takes int, not '3:5'",
    ),
    "a line break behind the value": (
        "",
        ("STEPS=7\nSEED=123",),
        "command line: a line break ends the value of STEPS: give what follows as its own KEY=VALUE",
    ),
    "a line break of another system": (
        "",
        ("LENGTH=[1,\r\n2]\r\nSEED=123",),
        "command line: a line break ends the value of LENGTH: give what follows as its own KEY=VALUE",
    ),
    "a line break in a word": (
        "",
        ("sources.ToySource.split=a\nSEED=123",),
        "command line: cannot read the value of sources.ToySource.split=a SEED=123; a string of several words needs "
        "quotes",
    ),
    "an axis in a run": (
        "",
        ("axes.SEED=[0, 1]",),
        "command line: axes.SEED belongs to a sweep, but this is a single run: `vsml sweep FILE` runs a sweep",
    ),
    "a macro of the wrong type, used by a shipped file": (
        "optax.sgd.nesterov = %SEED",
        ("SEED=many",),
        "command line: SEED: optax.sgd.nesterov takes bool, not 'many'",
    ),
    # Numbers that the arrays cannot hold.
    "a whole number beyond 32 bits": (
        "",
        ("POPULATION=100000000000",),
        "command line: train.population is 100000000000: give a whole number of 32 bits, 2,147,483,647 at most",
    ),
    "a seed beyond 64 bits": (
        "",
        ("SEED=9223372036854775808",),
        "command line: train.seed is 9223372036854775808: give a whole number of 64 bits, 9,223,372,036,854,775,807 at "
        "most",
    ),
    "a float beyond 32 bits": (
        "optax.sgd.momentum = -1e300",
        (),
        "toy.gin:17: optax.sgd.momentum is -1e+300: give a number below 1, and 0 at least",
    ),
    "a learning rate that is not finite": (
        "",
        ("optax.sgd.learning_rate=1e400",),
        "command line: optax.sgd.learning_rate is inf: give a number that is finite, and 0 at least",
    ),
    "a negative learning rate": (
        "",
        ("optax.sgd.learning_rate=-0.1",),
        "command line: optax.sgd.learning_rate is -0.1: give a number that is finite, and 0 at least",
    ),
    "a float that is 0 in 32 bits": (
        "",
        ("optax.sgd.learning_rate=1e-60",),
        "command line: optax.sgd.learning_rate is 1e-60: give a number of 32 bits, of a size from 1.2e-38 to 3.4e+38, "
        "or 0",
    ),
    "dynamic registration": (
        "from __gin__ import dynamic_registration",
        (),
        "toy.gin:17: remove `from __gin__ import dynamic_registration`: all parts are known as axis.Name",
    ),
    # Types.
    "string for int": (
        "cells.Toy.size = 'big'",
        (),
        "toy.gin:17: cells.Toy.size takes int, not 'big'",
    ),
    "bool for int": (
        "cells.Toy.size = True",
        (),
        "toy.gin:17: cells.Toy.size takes int, not True",
    ),
    "bool for float": (
        "cells.Toy.offset = True",
        (),
        "toy.gin:17: cells.Toy.offset takes float, not True",
    ),
    "int for bool": (
        "cells.Toy.gated = 1",
        (),
        "toy.gin:17: cells.Toy.gated takes bool, not 1",
    ),
    "word for bool": (
        "",
        ("cells.Toy.gated=true",),
        "command line: cells.Toy.gated takes bool, not 'true'; did you mean True?",
    ),
    "word for None": (
        "",
        ("cells.Toy.bound=none",),
        "command line: cells.Toy.bound takes float or None, not 'none'; did you mean None?",
    ),
    "None for float": (
        "",
        ("cells.Toy.offset=None",),
        "command line: cells.Toy.offset takes float, not None",
    ),
    "float for int, by a macro": (
        "",
        ("STEPS=1e3",),
        "command line: train.steps takes int, not 1000.0; did you mean 1000?",
    ),
    "macro of a macro": (
        "LENGTH_2 = 2.5\ntrain.steps = %STEPS_2\nSTEPS_2 = %LENGTH_2",
        (),
        "toy.gin:17: train.steps takes int, not 2.5",
    ),
    "literal": (
        "",
        ("cells.Toy.mode=meen",),
        "command line: cells.Toy.mode takes 'mean' or 'sum', not 'meen'; did you mean mean?",
    ),
    "number for a list": (
        "learners.ToyLearner.widths = 32",
        (),
        "toy.gin:17: learners.ToyLearner.widths takes a list of int, not 32; did you mean [32]?",
    ),
    "one element of a list": (
        "learners.ToyLearner.widths = [1, 2, 'x', 4, 5, 6, 7, 8]",
        (),
        "toy.gin:17: learners.ToyLearner.widths takes a list of int, not [1, 2, 'x', 4, 5, 6, 7, 8]",
    ),
    "part of another axis": (
        "",
        ("learners.ToyLearner.cell=@sources.ToySource",),
        "command line: learners.ToyLearner.cell takes Cell, not @sources.ToySource(); parts that fit: "
        "cells.Bilinear, cells.GRU, cells.LSTM, cells.MLP, cells.Vanilla, cells.Other",  # six at most
    ),
    "part of another axis, by a macro": (
        "",
        ("OBJECTIVE=@sources.ToySource",),
        "command line: train.objective takes Objective, not @sources.ToySource(); parts that fit: "
        "objectives.Cloning, objectives.Discounted, objectives.Improvement, objectives.Last, objectives.OnlineMean, "
        "objectives.Remember",  # six at most
    ),
    "name of a part": (
        "",
        ("CELL=cells.Other",),
        "command line: CELL: learners.ToyLearner.cell takes Cell, not 'cells.Other'; did you mean @cells.Other()?",
    ),
    "schedule for a number": (
        "cells.Toy.offset = @optax.constant_schedule()\noptax.constant_schedule.value = 1",
        (),
        "toy.gin:17: cells.Toy.offset takes float, not @optax.constant_schedule()",
    ),
    # Without effect.
    "unused macro": (
        "WIDTH = 3",
        (),
        "toy.gin:17: nothing uses WIDTH",
    ),
    "unused part": (
        "cells.Other.size = 3",
        (),
        "toy.gin:17: nothing uses cells.Other.size: the experiment has no cells.Other; did you mean cells.Toy.size?",
    ),
    "part that was replaced before": (
        "",
        ("gru.gin", "cells.Toy.offset=2.0"),
        "command line: nothing uses cells.Toy.offset: the experiment has no cells.Toy; it has cells.Other",
    ),
    "chosen, but not by this learner": (
        "",
        ("plain.gin", "gru.gin"),
        "gru.gin:1: nothing uses CELL",
    ),
    "hidden by all scopes": (
        EVALUATORS + "evaluators.ToyEvaluator.name = 'x'",
        (),
        "toy.gin:22: nothing uses evaluators.ToyEvaluator.name: plain/evaluators.ToyEvaluator.name of toy.gin:18 "
        "always comes before it",
    ),
    # Twice, never, in circles.
    "twice in one file": (
        "STEPS = 3",
        (),
        "toy.gin:17: STEPS is already set in toy.gin:14; remove one of the two",
    ),
    "twice in one file, as a block": (
        "tasks.ToyTasks:\n  length = 3",
        (),
        "toy.gin:18: tasks.ToyTasks.length is already set in toy.gin:9; remove one of the two",
    ),
    "required macro": (
        "",
        ("STEPS=%gin.REQUIRED",),
        "command line: STEPS must be set; give it on the command line, as STEPS=VALUE",
    ),
    "required field": (
        "",
        ("train.steps=%gin.REQUIRED",),
        "command line: train.steps must be set",
    ),
    "macros in a circle": (
        "",
        ("STEPS=%LENGTH", "LENGTH=%STEPS"),
        "command line: LENGTH is defined by itself; break the cycle",
    ),
    "parts in a circle": (
        "",
        ("gru.gin", "cells.Other.inner=@cells.Other"),
        "command line: cells.Other is built from itself; break the cycle",
    ),
    # Files and modules.
    "include": (
        "include 'cells/lstn.gin'",
        (),
        "toy.gin:17: no gin file cells/lstn.gin, neither shipped nor below the working directory; "
        "did you mean cells/lstm.gin?",
    ),
    "file on the command line": (
        "",
        ("lstm.gin",),
        "command line: no gin file lstm.gin, neither shipped nor below the working directory; "
        "did you mean cells/lstm.gin?",
    ),
    "include of itself": (
        "include 'toy.gin'",
        (),
        "toy.gin:17: toy.gin includes itself; remove this include",
    ),
    "import": (
        "import no_such_module",
        (),
        "toy.gin:17: `import no_such_module` failed: ModuleNotFoundError: No module named 'no_such_module'",
    ),
    "import of no parts": (
        "import json",
        (),
        "toy.gin:17: json defines no part; a part is a concrete frozen dataclass below one of the bases of vsml, "
        "such as vsml.cells.Cell",
    ),
}


@pytest.mark.parametrize(("extra", "overrides", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_ends_in_one_line(extra: str, overrides: tuple[str, ...], message: str) -> None:
    assert complaint(extra, *overrides) == message


def test_what_is_never_set_is_named() -> None:
    Path("few.gin").write_text("import toy_parts\nLEARNER = @learners.ToyLearner()\n")
    with pytest.raises(UserError, match=r"^few\.gin: train needs learner; start the recipe with include 'experiment"):
        config.load("few.gin")
    Path("few.gin").write_text("import toy_parts\ninclude 'experiment.gin'\nLEARNER = @learners.ToyLearner()\n")
    with pytest.raises(UserError, match=r"^few\.gin:3: learners\.ToyLearner needs cell; bind learners\.ToyLearner\."):
        config.load("few.gin")
    Path("few.gin").write_text("import toy_parts\ninclude 'experiment.gin'\n")
    behind = "learners/vsml_on_random_features.gin, learners/vsml_on_remembered_examples.gin"
    files = f"learners/meta_rnn.gin, .*learners/vsml.gin, {behind}"
    with pytest.raises(UserError, match=rf"^experiment\.gin:\d+: LEARNER is not set; include one of .*{files}$"):
        config.load("few.gin")


def test_files_that_cannot_be_read(here: Path) -> None:
    (here / "bad.gin").write_bytes(b"STEPS = '\xff'\n")
    assert complaint("", "bad.gin").startswith("command line: bad.gin cannot be read as text: ")
    (here / "bad_parts.py").write_text("1 / 0\n")
    assert complaint("import bad_parts") == "toy.gin:17: `import bad_parts` failed: ZeroDivisionError: division by zero"
    with pytest.raises(UserError, match=r"^command line: there is no recipe toi\.gin"):
        config.load("toi.gin")


def test_two_modules_with_parts_of_one_name(here: Path) -> None:
    (here / "more_parts.py").write_text(TOY_PARTS)
    message = complaint("import more_parts")
    assert message == "toy.gin:17: learners.Plain of more_parts is taken by toy_parts.Plain; rename the class"


def test_an_axis_may_hold_parts_that_are_no_subclass_of_its_base(monkeypatch: pytest.MonkeyPatch) -> None:
    assert complaint("", "evaluators.Loose.size=2").startswith("command line: unknown part evaluators.Loose")
    import toy_parts  # pyright: ignore[reportMissingImports]

    monkeypatch.setattr(vsml.evaluation, "PARTS", (toy_parts.Loose,), raising=False)
    unused = "command line: nothing uses evaluators.Loose.size: the experiment has no evaluators.Loose"
    assert complaint("", "evaluators.Loose.size=2") == unused


def test_overrides_apply_in_order() -> None:
    (Path("short.gin")).write_text("STEPS = 5\nLENGTH = 7\n")
    experiment = built(load("", "STEPS=3", "short.gin", "LENGTH=9"))
    assert (experiment.steps, experiment.tasks.length) == (5, 9)


def test_values_of_the_command_line() -> None:
    values = {
        "cells.Toy.offset=1e-3": 1e-3,
        "cells.Toy.offset=-2": -2,
        "cells.Toy.bound=None": None,
        "cells.Toy.gated=True": True,
        "cells.Toy.mode=sum": "sum",
        "cells.Toy.mode='sum'": "sum",
        "sources.ToySource.split=test[:300]": "test[:300]",
        "sources.ToySource.split=data/x-1.idx.gz": "data/x-1.idx.gz",
        "sources.ToySource.split=pretrained:broad": "pretrained:broad",
        "sources.ToySource.split=runs/x@best": "runs/x@best",
        "learners.ToyLearner.widths=[1, 2]": (1, 2),
        "learners.ToyLearner.widths=()": (),
        "train.steps=%LENGTH": 20,
    }
    for override, expected in values.items():
        name = override.partition("=")[0].rpartition(".")[2]
        experiment = built(load("", override))
        holders = (experiment.learner.cell, experiment.learner, experiment.tasks.source, experiment)
        (value,) = [getattr(holder, name) for holder in holders if hasattr(holder, name)]
        assert value == expected
        assert type(value) is type(expected)


def test_what_a_later_statement_replaced_is_dropped() -> None:
    extra = "cells.Toy.size = 32\nlearners.ToyLearner.widths = [3]\n"
    assert "cells.Toy" not in load(extra, "gru.gin").text
    assert "cells.Toy.offset" not in load(extra, "cells.Toy.offset=2.0", "gru.gin").text
    plain = load(extra, "plain.gin")
    assert "CELL" not in plain.text
    assert type(built(plain).learner).__name__ == "Plain"
    assert "ToyEvaluator" not in load(EVALUATORS, "EVALUATORS=[]").text
    scoped = load("cells.Toy.size = 32\n", "CELL=@big/cells.Toy", "big/cells.Toy.size=64")
    assert "cells.Toy.size = 32" not in scoped.text
    assert built(scoped).learner.cell.size == 64


def test_scopes_work_as_in_gin() -> None:
    extra = EVALUATORS + "deep/er/cells.Toy.size = 5\ndeep/cells.Toy.mode = 'sum'\ncells.Toy.offset = 7.0\n"
    resolved = load(extra, "CELL=@deep/er/cells.Toy")
    experiment = built(resolved)
    plain, hard = experiment.evaluators
    assert (plain.name, plain.tasks.length) == ("plain", 20)
    assert (hard.name, hard.tasks.length) == ("hard", 99)
    cell = experiment.learner.cell
    assert (cell.size, cell.mode, cell.offset) == (5, "sum", 7.0)
    # Resolution and gin agree, field by field.
    assert fields_of(resolved.json["train"]["evaluators"]) == [dataclasses.asdict(plain), dataclasses.asdict(hard)]
    assert fields_of(resolved.json["train"]["learner"]["cell"]) == dataclasses.asdict(cell)
    # The value of a macro is built in the scope of its name, and no other scope reaches into it.
    assert built(load("CELL/cells.Toy.size = 6\n")).learner.cell.size == 6
    assert complaint("LEARNER/cells.Toy.size = 6").startswith("toy.gin:17: nothing uses LEARNER/cells.Toy.size: ")


def test_lists_make_hashable_parts() -> None:
    learner = built(load("learners.ToyLearner.widths = [1, 2]\n" + EVALUATORS))
    assert learner.learner.widths == (1, 2)
    assert isinstance(hash(learner.learner), int)
    assert isinstance(learner.evaluators, tuple)


def test_text_alone_reproduces_the_config(here: Path) -> None:
    first = load(EVALUATORS + 'cells.Toy.offset = 1e999\nsources.ToySource.split = "it\'s"\n', "STEPS=7")
    (here / "runs").mkdir()
    (here / "runs" / "config.gin").write_text(first.text)
    again = config.load("runs/config.gin")
    assert again.text == first.text
    assert again.differences(first) == []
    assert first.text.startswith("import toy_parts\n\nCELL = @cells.Toy()\n")
    assert "STEPS = 7\n" in first.text
    operative = config.load(str(_write(here / "operative.gin", first.operative)))
    assert operative.differences(first) == []
    assert "cells.Toy.gated = False\n" in first.operative
    assert "# learners.ToyLearner.squash = builtins.abs\n" in first.operative
    assert operative.operative == first.operative


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_json_holds_every_field_and_shows_differences() -> None:
    old, new = load("", "train.steps=%LENGTH"), load("", "gru.gin", "STEPS=11", "optax.sgd.momentum=0.9")
    stored = json.loads(json.dumps(old.json))
    assert stored == old.json
    assert stored["macros"] == {**stored["macros"], "CELL": "@cells.Toy()", "LENGTH": 20, "EVALUATORS": []}
    learner = stored["train"]["learner"]
    assert learner["cell"] == {
        "part": "cells.Toy", "size": 16, "offset": 1.0, "mode": "mean", "bound": None, "gated": False,
    }  # fmt: skip
    assert learner["default_cell"]["part"] == "cells.Toy"
    assert learner["default_cell"]["size"] == 3
    expected = {
        ("train.learner.cell", "cells.Toy", "cells.Other"),
        ("train.learner.cell.size", 16, 4),
        ("train.learner.cell.offset", 1.0, "(absent)"),
        ("train.learner.cell.mode", "mean", "(absent)"),
        ("train.learner.cell.bound", None, "(absent)"),
        ("train.learner.cell.gated", False, "(absent)"),
        ("train.learner.cell.inner", "(absent)", None),
        ("train.optimizer.momentum", None, 0.9),
        ("train.steps", 20, 11),
    }
    assert set(old.differences(new)) == expected
    assert set(old.differences(json.loads(json.dumps(new.json)))) == expected


def test_gin_keeps_nothing_between_builds() -> None:
    big, small = load("", "cells.Toy.size=64"), load("")
    gin.parse_config("LEFT_OVER = 3")
    assert built(big).learner.cell.size == 64
    assert built(small).learner.cell.size == 16
    assert built(big).learner == built(big).learner
    assert gin.config_str().strip() == ""
    assert type(built(big).learner.cell)().size == 16  # the class itself is not touched


def test_a_refusal_of_a_constructor_names_the_part() -> None:
    bad = load("", "cells.Toy.size=0")
    with pytest.raises(UserError, match=r"^command line: cells\.Toy: size is 0: set it to 1 or more$"):
        built(bad)
    assert built(load("")).learner.cell.size == 16


def test_what_was_typed_is_blamed_and_no_file_that_refers_to_it() -> None:
    """Of the fields that a refusal names, the one that was set last."""
    Path("cosine.gin").write_text(
        "optax.sgd.learning_rate = @optax.cosine_decay_schedule()\noptax.cosine_decay_schedule.init_value = 1.0\n"
        "optax.cosine_decay_schedule.decay_steps = %STEPS\n"
    )
    steps = "optax.cosine_decay_schedule.decay_steps"
    for extra, overrides, where in (
        ("", ["cosine.gin", "STEPS=-5"], "command line: STEPS: optax.cosine_decay_schedule: "),
        ("", ["STEPS=-5", "cosine.gin"], "command line: STEPS: optax.cosine_decay_schedule: "),
        ("", ["cosine.gin", f"{steps}=0", "STEPS=5"], "command line: optax.cosine_decay_schedule: "),
        ("", ["STEPS=0"], "command line: train.steps is 0"),
        ("cells.Toy.size = 0\n", ["STEPS=0"], "toy.gin:17: cells.Toy: size is 0"),
    ):
        resolved = load(extra, *overrides)
        with pytest.raises(UserError) as refusal:
            resolved.build()
        assert str(refusal.value).startswith(where)


def test_a_sweep_is_no_recipe() -> None:
    with pytest.raises(UserError) as refusal:
        config.load("sweeps/learners.gin")
    line = (
        r"sweeps/learners\.gin:\d+: sweep\.tags belongs to a sweep, .*: `vsml sweep sweeps/learners\.gin` runs a sweep"
    )
    assert re.fullmatch(line, str(refusal.value))


def test_chains_and_schedules_of_optax() -> None:
    extra = """
optax.chain.transforms = [@optax.clip_by_global_norm(), @optax.sgd()]
optax.clip_by_global_norm.max_norm = 1
optax.piecewise_constant_schedule.init_value = 0.5
optax.piecewise_constant_schedule.boundaries_and_scales = {1: 0.1}
"""
    Path("chain.gin").write_text("OPTIMIZER = @optax.chain()\n" + extra)
    resolved = load("", "chain.gin", "optax.sgd.learning_rate=@optax.piecewise_constant_schedule")
    optimizer = built(resolved).optimizer
    params = {"w": jnp.zeros(2)}
    state = optimizer.init(params)
    gradient = {"w": jnp.array([3.0, 4.0])}  # norm 5, clipped to [.6, .8]
    first, state = optimizer.update(gradient, state, params)
    second, _ = optimizer.update(gradient, state, params)
    np.testing.assert_allclose(first["w"], [-0.3, -0.4], rtol=1e-6)
    np.testing.assert_allclose(second["w"], [-0.03, -0.04], rtol=1e-6)
    chain = resolved.json["train"]["optimizer"]
    assert [part["part"] for part in chain["transforms"]] == ["optax.clip_by_global_norm", "optax.sgd"]
    assert chain["transforms"][1]["learning_rate"]["boundaries_and_scales"] == {"1": 0.1}


def test_includes_never_come_from_beside_the_including_file(here: Path) -> None:
    (here / "sub").mkdir()
    (here / "sub" / "beside.gin").write_text("STEPS = 1\n")
    outer = _write(here / "sub" / "outer.gin", RECIPE + "include 'beside.gin'\n")
    with pytest.raises(UserError, match=r"outer\.gin:17: no gin file beside\.gin, "):
        config.load(str(outer))
    outer.write_text(RECIPE + "include 'sub/beside.gin'\n")
    assert built(config.load(str(outer))).steps == 1
    # What is shipped comes before what lies in the working directory, unless asked for by ./
    (here / "experiment.gin").write_text("STEPS = 1\n")
    assert built(load()).steps == 10
    _write(here / "toy.gin", RECIPE.replace("experiment.gin", "./experiment.gin"))
    with pytest.raises(UserError, match=r"^toy\.gin: train needs learner"):
        config.load("toy.gin")


def test_a_file_may_be_included_twice() -> None:
    Path("steps.gin").write_text("STEPS = 3\n")
    extra = "include 'steps.gin'\ninclude 'steps.gin'\n"
    assert built(load(extra)).steps == 3


def test_the_catalogue_lists_parts_with_their_fields() -> None:
    cells = {part.name: part for part in config.parts("cells")}
    assert "cells.LSTM" in cells
    assert "cells.Toy" not in cells
    assert cells["cells.LSTM"].summary
    (chain,) = [part for part in config.parts("optax") if part.name == "optax.chain"]
    assert chain.fields["transforms"].required
    names = [part.name for part in config.parts()]
    assert len(names) == len(set(names))
    assert {name.partition(".")[0] for name in names} == set(config.AXES)
    with pytest.raises(UserError, match=r"^there is no axis cell; did you mean cells\?$"):
        config.parts("cell")


def test_every_shipped_file_has_a_header_and_can_be_found_by_name() -> None:
    for path in config.gin_root().rglob("*.gin"):
        assert re.match(r"# \w.{10,}", path.read_text()), path
    for name, header in config.recipes():
        assert header
        assert config.load(name.removeprefix("recipes/").removesuffix(".gin")).recipe == name


def test_shipped_parts_go_together() -> None:
    Path("real.gin").write_text(
        RECIPE.replace("LEARNER = @learners.ToyLearner()\nlearners.ToyLearner.cell = %CELL\nCELL = @cells.Toy()\n", "")
    )
    files = ["learners/vsml.gin", "cells/lstm.gin", "sharing/shared.gin", "sparsity/dense.gin"]
    online_es = ["objectives/online_mean.gin", "meta_optimizers/es.gin"]
    last_bptt = ["objectives/last.gin", "meta_optimizers/bptt.gin", "sharing/layerwise.gin"]
    for others in (online_es, last_bptt):
        assert built(config.load("real.gin", files + others)).learner.cell.size == 16
    assert type(built(config.load("real.gin", [*files, "learners/meta_rnn.gin"])).learner).__name__ == "MetaRNN"


def test_nothing_else_imports_gin() -> None:
    package = Path(vsml.__file__).parent
    for path in package.rglob("*.py"):
        tree = ast.parse(path.read_text())
        imported = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        imported += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        outside = path.parent != package / "config"
        assert not (outside and any(name.split(".")[0] == "gin" for name in imported)), path


def test_the_working_directory_leaves_the_path_again() -> None:
    before = list(sys.path)
    load()
    assert sys.path == before
