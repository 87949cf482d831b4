"""The gin files of the axis: each can follow any recipe, and every source has one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vsml import config as configs
from vsml.config import gin_root
from vsml.config.catalogue import parts
from vsml.tasks import Classification

FILES = {path.stem: f"tasks/{path.name}" for path in sorted((gin_root() / "tasks").glob("*.gin"))}
SOURCES = {part.name: part.make.__name__.removesuffix("Files").removesuffix("File") for part in parts("sources")}
NEEDED = {
    "csv": ["sources.CsvFile.path=table.csv"],
    "npz": ["sources.NpzFiles.images=data.npz"],
    "idx": ["sources.IdxFiles.images=images.idx", "sources.IdxFiles.labels=labels.idx"],
}
"""What names a user's own files."""


def config_of(stem):
    """The quickstart with other tasks."""
    return configs.load("quickstart", [FILES[stem], *NEEDED.get(stem, []), "EVALUATORS=[]"])


@pytest.mark.parametrize("stem", FILES)
def test_it_can_follow_a_recipe(stem):
    assert config_of(stem).build().tasks != configs.load("quickstart").build().tasks or stem == "digits"


@pytest.mark.parametrize(("source", "name"), SOURCES.items())
def test_every_source_has_one(source, name):
    stem = next(stem for stem in FILES if stem.replace("_", "") == name.lower())
    assert [node.part.name for node in config_of(stem).nodes if node.part.name.startswith("sources.")] == [source]


@pytest.mark.parametrize("stem", ["label_shift", "input_shift"])
def test_shifts_keep_the_source(stem):
    tasks, before = config_of(stem).build().tasks, configs.load("quickstart").build().tasks
    assert isinstance(tasks, Classification)
    assert isinstance(before, Classification)
    assert tasks.transforms[-1].changes == (50,)
    assert replace(tasks, transforms=()) == replace(before, transforms=())
