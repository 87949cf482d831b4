"""The gin files that come with the package."""

from __future__ import annotations

import functools
from pathlib import Path

import vsml


@functools.cache
def gin_root() -> Path:
    """The shipped gin folder: inside the installed package, else that of the repository."""
    package = Path(vsml.__file__).resolve().parent
    installed = package / "_gin"
    return installed if installed.is_dir() else package.parent / "gin"


def shipped_files() -> list[str]:
    """All shipped gin files, relative to the gin folder."""
    return sorted(path.relative_to(gin_root()).as_posix() for path in gin_root().rglob("*.gin"))


def recipes(folder: str = "recipes") -> list[tuple[str, str]]:
    """The shipped recipes, or sweeps: path below the gin folder and first line of the header.

    Axes that sweeps share are none.
    """
    names = [name for name in shipped_files() if name.startswith(f"{folder}/") and not name.startswith("sweeps/axes/")]
    return [(name, _header(gin_root() / name)) for name in names]


def _header(path: Path) -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ").strip() if first.startswith("#") else ""
