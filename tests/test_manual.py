"""`vsml parts`: every field of every part says what it means."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import pytest
from runs import call

from vsml.config import AXES, Part, part_in_full, parts
from vsml.config.docstrings import meanings, meanings_of_class

SHIPPED = [*parts(), *parts("train")]


@pytest.mark.parametrize("part", SHIPPED, ids=lambda part: part.name)
def test_every_field_has_a_meaning(part: Part):
    assert part.summary
    missing = [name for name, field in part.fields.items() if len(field.doc) < 4]
    assert missing == []
    page = part_in_full(part.name)
    flat = " ".join(page.split())
    assert page.startswith(part.name)
    assert all(" ".join(field.doc.split()) in flat for field in part.fields.values())
    assert all(len(line) <= 80 for line in page.partition("Fields:")[2].splitlines())


@pytest.mark.parametrize(
    "name", ["optax.adam", "optax.chain", "optax.clip_by_global_norm", "optax.cosine_decay_schedule", "optax.sgd"]
)
def test_parts_of_optax_say_what_their_arguments_mean(name: str):
    (part,) = [part for part in parts("optax") if part.name == name]
    assert part.fields
    assert all(field.doc for field in part.fields.values())


def test_a_part_in_full(capfd: pytest.CaptureFixture[str]):
    outcome = call(capfd, "parts", "cells.LSTM")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("cells.LSTM\n\nLSTM with gate offsets and linear message heads.\n\nLSTM sub-RNN, the")
    assert "    c' = sig(f + offset) c + sig(i - offset) tanh(g)        h' = sig(o) tanh(c')\n" in outcome.out
    assert (
        textwrap.dedent("""\
        Fields:
          size: int = 16
              N, the number of hidden units h (and memory cells c) of one sub-RNN.
          gate_offset: float = 5.0
        """)
        in outcome.out
    )


def test_the_experiment_in_full(capfd: pytest.CaptureFixture[str]):
    outcome = call(capfd, "parts", "train")
    assert outcome.code == 0
    assert "  steps: int required\n      meta-steps.\n" in outcome.out


def test_an_axis_is_an_overview(capfd: pytest.CaptureFixture[str]):
    outcome = call(capfd, "parts", "cells")
    assert "    size: int = 16\n    gate_offset: float = 5.0\n" in outcome.out


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("cells.LTSM", "there is no part cells.LTSM; did you mean cells.LSTM?"),
        ("cels.LSTM", "there is no part cels.LSTM; did you mean cells.LSTM?"),
        ("optax.adm", "there is no part optax.adm; did you mean optax.adam?"),
        ("no.such", f"there is no part no.such; the axes are {', '.join((*AXES, 'optax', 'train'))}"),
        ("cels", "there is no axis cels; did you mean cells?"),
    ],
)
def test_an_unknown_part_ends_in_one_line(capfd: pytest.CaptureFixture[str], word: str, message: str):
    outcome = call(capfd, "parts", word)
    assert (outcome.code, outcome.out, outcome.err) == (2, "", f"vsml: {message}\n")


def test_meanings_are_read_from_sections_alone():
    found = meanings("""What it is.

    Attributes:
      size: of it,
        in numbers: many.
      width, height (int): of the picture.

    Args:
      *rest: what else
        there is.

    Returns:
      nothing: at all.
    """)
    sides = "of the picture."
    assert found == {"size": "of it, in numbers: many.", "width": sides, "height": sides, "rest": "what else there is."}
    assert meanings(None) == {}


def test_a_class_has_the_meanings_of_its_bases_and_may_replace_them():
    @dataclass(frozen=True)
    class Base:
        """The base.

        Attributes:
          size: of the base.
          rate: how fast.
        """

        size: int = 1
        rate: float = 1.0

    @dataclass(frozen=True)
    class Own(Base):
        """An own part.

        Attributes:
          size: of this.
        """

    @dataclass(frozen=True)
    class Silent(Own):
        pass

    for cls in (Own, Silent):
        assert meanings_of_class(cls) == {"size": "of this.", "rate": "how fast."}
