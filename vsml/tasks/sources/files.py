"""Where data files are looked for: `$VSML_DATA_DIR`, then this user's cache, then the network.

Published files are known by their MD5. A file in `$VSML_DATA_DIR` is used in place and never written to; downloads go
to the cache that pooch keeps for this user.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from vsml.errors import UserError

DATA_DIR = "VSML_DATA_DIR"


_offline: ContextVar[bool] = ContextVar("offline", default=False)


class Missing(UserError):
    """A file of a known data set that has not been downloaded."""


@contextmanager
def offline() -> Iterator[None]:
    """Within the block nothing is downloaded."""
    token = _offline.set(True)
    try:
        yield
    finally:
        _offline.reset(token)


@dataclass(frozen=True)
class PublishedFile:
    """A file of a known data set."""

    folder: str  # of the data set, below `$VSML_DATA_DIR`
    name: str
    md5: str | None  # None: none is published, and the format has its own checksums
    mirrors: tuple[str, ...] = ()  # URLs of the folders that hold it, tried in turn

    def present(self) -> Path | None:
        """The file in `$VSML_DATA_DIR`, checked, or None. Raises `UserError` where it is corrupt."""
        root = os.environ.get(DATA_DIR)
        path = Path(root).expanduser() / self.folder / self.name if root else None
        return None if path is None or not path.is_file() else self._checked(path)

    def fetch(self) -> Path:
        """The file, downloaded if need be. Raises `UserError` where it cannot be had, `Missing` within `offline`."""
        return self.present() or self._download()

    def _download(self) -> Path:
        import pooch  # takes a while to import and is needed only where a download is

        problem: Exception | None = None
        cache = pooch.os_cache("vsml") / self.folder
        if _offline.get():
            if not (cache / self.name).is_file():
                raise Missing(f"{self.name} of {self.folder} is not on this machine")
            return self._checked(cache / self.name)
        for url in self.urls:
            try:
                known = None if self.md5 is None else f"md5:{self.md5}"
                return Path(pooch.retrieve(url, known, fname=self.name, path=cache))
            except (OSError, ValueError) as error:  # no network, no such host, no room, or other bytes than published
                problem = error
        root = os.environ.get(DATA_DIR)
        raise UserError(
            f"{self.name} of {self.folder} is missing: download it from {' or '.join(self.urls)} "
            f"(which failed from here: {type(problem).__name__}) to ${DATA_DIR}/{self.folder} "
            f"({DATA_DIR} is {root or 'not set'})"
        )

    def _checked(self, path: Path) -> Path:
        if self.md5 is not None and _md5(path) != self.md5:
            raise UserError(f"{path} is corrupt (its MD5 is not {self.md5}): replace it, or remove it for a download")
        return path

    @property
    def urls(self) -> tuple[str, ...]:
        """Where the file is published."""
        return tuple(mirror + self.name for mirror in self.mirrors)


def find(path: str) -> Path:
    """A user's own file: relative paths are looked for below `$VSML_DATA_DIR`, then the working directory."""
    roots = [os.environ[DATA_DIR]] if os.environ.get(DATA_DIR) else []
    candidates = [Path(root).expanduser() / Path(path).expanduser() for root in [*roots, Path.cwd()]]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    looked = " or ".join(dict.fromkeys(map(str, candidates)))
    raise UserError(f"data file {path!r} does not exist (looked for {looked}): mend the path, or set {DATA_DIR}")


def name_of_file(path: str) -> str:
    """`wine` of `data/wine.csv.gz`: what evaluations of it are named after, fit for a file name."""
    return re.sub(r"[^\w-]+", "_", Path(path).name.partition(".")[0]) or "data"


def _md5(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; mend its permissions or replace it") from error
