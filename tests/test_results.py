"""The pages of results: what makes their figures and tables, and that each of them can be made."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from vsml.errors import UserError

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
PAGES = sorted(path.stem for path in RESULTS.glob("*.py") if path.with_suffix(".md").exists())

MODULE = """
from pathlib import Path

SEEDS = (1, 2)
SMALLEST = {}


def commands(seeds) -> tuple[str, ...]:
    return tuple(f"RUNS/tool.py {('zero', 'one', 'two')[seed]}" for seed in seeds)


def figures(runs: Path) -> dict[str, str]:
    return {"page.svg": "<svg/>"}


def tables(runs: Path) -> dict[str, str]:
    return {"calls": "| calls |\\n|---|\\n| " + (runs / "calls").read_text().strip().replace("\\n", ", ") + " |"}
"""
PAGE = "# Page\n\n<!-- table: calls -->\n\nold\n\n<!-- end -->\n\nIt takes <!-- time -->long<!-- end --> here.\n"
TOOL = """
import pathlib
import sys

here = pathlib.Path(__file__).parent
with (here / "calls").open("a") as file:
    file.write(sys.argv[1] + "\\n")
sys.exit(3 if (here / "broken").exists() and sys.argv[1] == "two" else 0)
"""


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`docs/results/make.py` as a module."""
    monkeypatch.syspath_prepend(str(RESULTS))
    sys.modules.pop("make", None)
    import make  # pyright: ignore[reportMissingImports]

    return make


@pytest.fixture
def page(make: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of results with one page; its runs are in the folder `runs` beside it."""
    folder, runs = tmp_path / "results", tmp_path / "runs"
    folder.mkdir()
    runs.mkdir()
    (folder / "page.py").write_text(MODULE)
    (folder / "page.md").write_text(PAGE)
    (runs / "tool.py").write_text(TOOL)
    monkeypatch.setattr(make, "HERE", folder)
    return folder


def test_a_page_is_made_once_and_its_commands_are_not_repeated(make: ModuleType, page: Path):
    runs = page.parent / "runs"
    assert make.main(["--runs", str(runs)]) == 0
    text = (page / "page.md").read_text()
    assert "| one, two |" in text
    assert "old" not in text
    assert re.search(r"It takes <!-- time -->\d+ s<!-- end --> here.", text)
    assert (page / "page.svg").read_text() == "<svg/>"
    assert make.main(["page", "--runs", str(runs)]) == 0
    assert (runs / "calls").read_text().split() == ["one", "two"]
    assert (page / "page.md").read_text() == text


def test_a_command_that_failed_is_run_again_and_the_others_are_not(
    make: ModuleType, page: Path, capsys: pytest.CaptureFixture[str]
):
    runs = page.parent / "runs"
    (runs / "broken").touch()
    assert make.main(["--runs", str(runs)]) == 2
    assert capsys.readouterr().err.startswith("error: page: `RUNS/tool.py two` ended with 3")
    assert "old" in (page / "page.md").read_text()
    (runs / "broken").unlink()
    assert make.main(["--runs", str(runs)]) == 0
    assert (runs / "calls").read_text().split() == ["one", "two", "two"]
    noted = json.loads((runs / "page.json").read_text())
    assert all(note["finished"] and note["seconds"] > 0 for note in noted.values())


def test_a_page_that_says_alone_is_made_where_it_is_named(make: ModuleType, page: Path):
    runs = page.parent / "runs"
    (page / "page.py").write_text(MODULE + "\n\nALONE = True\n")
    assert make.main(["--runs", str(runs)]) == 0
    assert not (runs / "calls").exists()
    assert make.main(["page", "--runs", str(runs)]) == 0
    assert (runs / "calls").read_text().split() == ["one", "two"]


def test_mistakes_end_in_one_line(make: ModuleType, page: Path, capsys: pytest.CaptureFixture[str]):
    assert make.main(["pgae"]) == 2
    assert "there is no docs/results/pgae.py with a page: choose from page" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"page\.md has 0 places .<!-- table: other -->"):
        make.with_block((page / "page.md").read_text(), "table: other", "| a |", "page.md")


@pytest.mark.parametrize(("seconds", "text"), [(50.2, "50 s"), (720, "12 minutes"), (5400, "1.5 hours")])
def test_times_are_rounded_as_people_say_them(make: ModuleType, seconds: float, text: str):
    assert make.took(seconds) == text


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_a_page_can_be_made_on_the_smallest_scale(
    make: ModuleType, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(ROOT)
    module = make.load(name)
    text = (RESULTS / f"{name}.md").read_text()
    module.SEEDS = module.SEEDS[:1]
    try:
        make.run(name, module.commands(module.SEEDS), tmp_path, module.SMALLEST)
    except UserError:
        if "VSML_DATA_DIR" not in os.environ:
            pytest.skip("needs MNIST, KMNIST or Omniglot: set VSML_DATA_DIR")
        raise
    for table, content in module.tables(tmp_path).items():
        assert "|---|" in content.replace(" ", "")
        make.with_block(text, f"table: {table}", content, name)
    for file, picture in module.figures(tmp_path).items():
        ElementTree.fromstring(picture)
        assert f"({file})" in text
    make.with_block(text, "time", "1 s", name)
