"""Curves on disk: whole or not there."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from vsml.errors import UserError
from vsml.evaluation import Evaluation, Rival

CURVES = {"correct": np.eye(3, 4, dtype=np.float32)}
SCORES = {"hits": np.ones(3)}
RIVALS = {"guess": Rival("guessing", SCORES, curves={"correct": np.zeros((3, 4), np.float32)})}


def evaluation(name: str, **curves: np.ndarray) -> Evaluation:
    return Evaluation(name, SCORES, "hits", RIVALS, curves or CURVES)


def test_round_trip(tmp_path):
    path = evaluation("digits_plain").save(tmp_path / "evaluations")
    assert path == tmp_path / "evaluations" / "digits_plain.npz"
    with np.load(path) as saved:
        assert saved.files == ["correct", "guess_correct"]
        np.testing.assert_array_equal(saved["correct"], CURVES["correct"])
        np.testing.assert_array_equal(saved["guess_correct"], np.zeros((3, 4)))
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = evaluation("digits").save(tmp_path)
    before = path.read_bytes()

    def fail(file, **arrays):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(UserError, match=r"cannot write .*digits\.npz: No space left on device"):
        evaluation("digits", correct=np.zeros((2, 2))).save(tmp_path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "evaluations").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        evaluation("digits").save(tmp_path / "evaluations")
