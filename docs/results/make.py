"""Makes the figures and tables of the pages in this folder: runs what is missing, then draws.

    python docs/results/make.py [PAGE ...] [--runs runs/results] [--draw_only]

The module PAGE.py beside a page PAGE.md has

    SEEDS                   of the runs
    commands(seeds)         what to run first, in this order; RUNS in them is the directory of all results
    figures(runs)           the SVG files of the page: name -> text
    tables(runs)            its tables in Markdown: name -> text, put between <!-- table: name --> and <!-- end -->
    ALONE                   True: made only where it is named
    SMALLEST                settings that make a command take seconds, for the tests: by one of its words

A command that is finished is noted in RUNS/PAGE.json with the seconds that it took, and is not run again while that
file is there. One that was stopped is run again: trainings go on where they were, sweeps skip what is done. The page
says how long all took between <!-- time --> and <!-- end -->.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vsml.errors import UserError
from vsml.runs.files import write_whole

HERE = Path(__file__).parent
RUNS = Path("runs/results")
BLOCK = "<!-- {} -->\n\n{}\n\n<!-- end -->"


def pages() -> list[str]:
    """The names of all pages that can be made here."""
    return sorted(path.stem for path in HERE.glob("*.py") if path.with_suffix(".md").exists())


def load(page: str) -> Any:
    """The module of a page. Raises `UserError` where there is none."""
    if page not in pages():
        raise UserError(f"there is no docs/results/{page}.py with a page: choose from {', '.join(pages())}")
    spec = importlib.util.spec_from_file_location(f"results_{page}", HERE / f"{page}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def run(page: str, commands: Sequence[str], runs: Path, overrides: Mapping[str, Sequence[str]] | None = None) -> float:
    """Runs the commands of a page that are not finished.

    Args:
      page: its name.
      commands: such as "vsml train recipes/quickstart.gin --run_dir RUNS/quickstart".
      runs: what RUNS stands for.
      overrides: settings that follow a command, by one of its words: a sweep, a gin file, the verb, or the program.
        Of several, the last word counts.

    Returns:
      Seconds that all commands took, those of earlier calls included.

    Raises:
      UserError: a command failed.
    """
    notes = runs / f"{page}.json"
    seconds: dict[str, dict[str, Any]] = json.loads(notes.read_text()) if notes.exists() else {}
    for command in commands:
        noted = seconds.setdefault(command, {"seconds": 0.0, "finished": False})
        if noted["finished"]:
            continue
        program, *words = shlex.split(command.replace("RUNS", str(runs)))
        start = [sys.executable, "-m", "vsml"] if program == "vsml" else [sys.executable, program]
        known = overrides or {}
        extra = next((known[word] for word in reversed([program, *words]) if word in known), ())
        print(f"{page}: {command}", flush=True)
        started, code = time.monotonic(), None
        try:
            code = subprocess.run([*start, *words, *extra], check=False).returncode
        finally:
            noted["seconds"] += round(time.monotonic() - started, 3)
            noted["finished"] = code == 0
            write_whole(notes, json.dumps(seconds, indent=1))
        if code:
            raise UserError(f"{page}: `{command}` ended with {code}: mend it, then run the same again")
    return sum(seconds[command]["seconds"] for command in commands)


def with_block(text: str, head: str, content: str, where: str) -> str:
    """The text of a page with what stands between `<!-- head -->` and `<!-- end -->` replaced.

    Raises `UserError` where the page has no such place, or several.
    """
    place = re.compile(rf"<!-- {re.escape(head)} -->.*?<!-- end -->", re.DOTALL)
    found = place.findall(text)
    if len(found) != 1:
        raise UserError(f"{where} has {len(found)} places '<!-- {head} --> ... <!-- end -->': give it one")
    block = BLOCK if "\n" in content else "<!-- {} -->{}<!-- end -->"
    return place.sub(lambda _: block.format(head, content.strip()), text)


def took(seconds: float) -> str:
    """`50 s`, `12 minutes`, `1.5 hours`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def make(page: str, runs: Path, draw_only: bool = False) -> None:
    """Runs what a page needs, and writes its figures and tables. Raises `UserError`."""
    module = load(page)
    seconds = None if draw_only else run(page, module.commands(module.SEEDS), runs)
    path = HERE / f"{page}.md"
    text = path.read_text(encoding="utf-8")
    for name, table in module.tables(runs).items():
        text = with_block(text, f"table: {name}", table + "\n", path.name)
    if seconds is not None:
        text = with_block(text, "time", took(seconds), path.name)
    for name, picture in module.figures(runs).items():
        write_whole(HERE / name, picture)
    write_whole(path, text)
    print(f"{page}: made", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Reads the command line, makes the pages; returns the exit code."""
    parser = argparse.ArgumentParser(description="Make the figures and tables of docs/results.")
    parser.add_argument(
        "pages", nargs="*", metavar="PAGE", help="which pages; without any, those that do not say ALONE"
    )
    parser.add_argument("--runs", type=Path, default=RUNS, help="directory of the runs (default: %(default)s)")
    parser.add_argument("--draw_only", action="store_true", help="run nothing, draw from what is there")
    args = parser.parse_args(argv)
    try:
        for page in args.pages or [page for page in pages() if not getattr(load(page), "ALONE", False)]:
            make(page, args.runs, args.draw_only)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
