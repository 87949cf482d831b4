"""Names of folders that a person can read."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

from vsml.runs import names

LONGEST = 100
"""Characters of a folder's name; file systems take 255 bytes."""


def label(overrides: Sequence[str], step: int) -> str:
    """A name for an evaluation with overrides after so many meta-steps: `kmnist,projected.length=600,step700`.

    A gin file gives its name, a setting its scope, field and value. Different overrides may share a label: `place`
    distinguishes them.
    """
    words = [*map(_word, overrides), f"step{step}"]
    text = ",".join(word for word in words if word)
    if len(text) > LONGEST:
        text = f"{text[: LONGEST - len(words[-1]) - 4]}...,{words[-1]}"
    return text


def place(folder: Path, name: str, config: str) -> Path:
    """The directory in `folder` for an evaluation with the text of a config: `name`, or `name-2`, `name-3`, ...

    Evaluations with other settings keep their directories; a repeated one finds its own.
    """
    numbered = (folder / (name if number == 1 else f"{name}-{number}") for number in itertools.count(1))
    return next(path for path in numbered if _config(path) in (None, config))


def _word(override: str) -> str:
    key, given, value = override.partition("=")
    if not given:
        return _plain(Path(override).stem)
    *scope, field = key.strip().split("/")
    return _plain(".".join([*scope, field.rpartition(".")[2]])) + "=" + _plain(re.sub(r"@(?:\w+/)*\w+\.", "", value))


def _plain(text: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", text).strip("_.")


def _config(path: Path) -> str | None:
    try:
        return (path / names.CONFIG_GIN).read_text()
    except OSError:
        return None
