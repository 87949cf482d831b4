"""Splits and slices as users write them."""

from __future__ import annotations

import pytest

from vsml.errors import UserError
from vsml.tasks.split import Split


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("test", range(0, 10)),
        ("test[:3]", range(0, 3)),
        ("test[4:]", range(4, 10)),
        ("test[2:-2]", range(2, 8)),
        ("test[-3:]", range(7, 10)),
        ("test[:]", range(0, 10)),
        (" test[ 1 : 10 ] ", range(1, 10)),
    ],
)
def test_slices_count_as_python_does(text, expected):
    assert range(10)[Split.parse(text, ("train", "test")).resolve(10)] == expected


@pytest.mark.parametrize("text", ["tset", "test[3]", "test[1:2:3]", "test[a:]", "test[:3", "", "test[:3]+train"])
def test_a_bad_split_names_what_is_available(text):
    with pytest.raises(UserError, match=r"not available: use one of train, test,"):
        Split.parse(text, ("train", "test"))


@pytest.mark.parametrize("text", ["test[3:3]", "test[5:2]", "test[-2:-4]", "test[10:]"])
def test_an_empty_slice_is_an_error(text):
    with pytest.raises(UserError, match=r"is empty: 'test' has 10 examples"):
        Split.parse(text, ("test",)).resolve(10)


@pytest.mark.parametrize("text", ["test[:11]", "test[-11:]"])
def test_an_end_outside_is_an_error(text):
    with pytest.raises(UserError, match=r"reaches outside 'test', which has 10 examples"):
        Split.parse(text, ("test",)).resolve(10)


@pytest.mark.parametrize("text", ["all", "all[:8000]", "all[-5:]", "all[1:-1]"])
def test_a_split_prints_as_it_was_written(text):
    assert str(Split.parse(text, ("all",))) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train", "test"),
        ("train[:8000]", "test"),
        ("test", "train"),
        ("test[:8000]", "test[8000:]"),
        ("test[8000:]", "test[:8000]"),
        ("all[-20:]", "all[:-20]"),
        ("background", "evaluation"),
        ("background_small1[:40]", "background_small1[40:]"),
    ],
)
def test_what_is_held_out_has_no_example_of_meta_training(text, expected):
    split = Split.parse(text)
    assert str(split.held_out()) == expected
    assert not split.overlaps(split.held_out())
    assert not split.held_out().overlaps(split)


@pytest.mark.parametrize("text", ["all", "test[10:20]", "background_small1"])
def test_where_no_one_part_is_left_nothing_is_held_out(text):
    with pytest.raises(UserError, match=r"leaves no one part to hold out: meta-train on train, or on a slice"):
        Split.parse(text).held_out()


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("train", "test", False),
        ("train", "all[:3]", True),
        ("train[:5]", "train", True),
        ("train[:5]", "train[5:]", False),
        ("train[:5]", "train[4:]", True),
        ("train[-5:]", "train[:-5]", False),
        ("train[-5:]", "train[:3]", True),  # nobody knows without the size
    ],
)
def test_whether_two_splits_may_share_an_example(one, other, overlap):
    assert Split.parse(one).overlaps(Split.parse(other)) is overlap
    assert Split.parse(other).overlaps(Split.parse(one)) is overlap
