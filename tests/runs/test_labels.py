"""Names of folders for evaluations."""

from __future__ import annotations

from pathlib import Path

import pytest

from vsml.runs.labels import LONGEST, label, place


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], "step7"),
        (["tasks/kmnist.gin"], "kmnist,step7"),
        (["../mine/x.gin", "STEPS = 3"], "x,STEPS=3,step7"),
        (["projected/tasks.Classification.length=600"], "projected.length=600,step7"),
        (["a/b/tasks.Classification.length=600"], "a.b.length=600,step7"),
        (["learners.VSML.hidden=[6, 32]"], "hidden=6_32,step7"),
        (["EVALUATORS=[@plain/evaluators.OnlineAccuracy()]"], "EVALUATORS=OnlineAccuracy,step7"),
        (["sources.CsvFile.path='data/my wine.csv'"], "path=data_my_wine.csv,step7"),
        (["optax.adam.learning_rate=1e-3"], "learning_rate=1e-3,step7"),
    ],
)
def test_a_person_can_read_them(overrides: list[str], expected: str):
    assert label(overrides, 7) == expected


def test_they_are_names_of_files_whatever_is_set():
    for override in ("a.B.c=" + "9" * 500, "a.B.c='/../\0:*?'", "..", "x.gin" * 90):
        text = label([override], 12)
        assert len(text) <= LONGEST
        assert text.endswith("step12")
        assert not set(text) & set("/\0:*? '\"")


def test_every_config_has_a_place_of_its_own(tmp_path: Path):
    def evaluate(config: str) -> str:
        path = place(tmp_path, "kmnist,step7", config)
        path.mkdir(exist_ok=True)
        (path / "config.gin").write_text(config)
        return path.name

    names = ["kmnist,step7", "kmnist,step7-2", "kmnist,step7-3", "kmnist,step7-2"]
    assert [evaluate(config) for config in ("a", "b", "c", "b")] == names
