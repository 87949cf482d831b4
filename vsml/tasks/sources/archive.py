"""Files inside a zip or tar archive, read without unpacking it."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection
from pathlib import Path

from vsml.errors import UserError

_CORRUPT = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, RuntimeError)
"""NotImplementedError and RuntimeError are what `zipfile` raises for unknown compression and for encryption."""


def read_zip(path: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """The wanted files of a zip archive by name, in the order of their names. Raises `UserError` for a corrupt one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in sorted(archive.namelist()) if wanted(name)}
    except (*_CORRUPT, OSError) as error:
        raise _unreadable(path, "zip", error) from error


def read_tar(path: Path, names: Collection[str]) -> dict[str, bytes]:
    """Files of a tar archive, plain or compressed, by name. Raises `UserError` where one is missing or corrupt."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:  # in the order of the archive: seeking back would decompress it again
                content = archive.extractfile(member) if member.name in names else None
                if content is not None:
                    found[member.name] = content.read()
    except (*_CORRUPT, OSError) as error:
        raise _unreadable(path, "tar", error) from error
    return {name: _present(found, name, path) for name in names}


def _present(found: dict[str, bytes], name: str, path: Path) -> bytes:
    if name not in found:
        raise UserError(f"{path} holds no file {name}: replace it by a whole copy")
    return found[name]


def _unreadable(path: Path, kind: str, error: Exception) -> UserError:
    if isinstance(error, OSError) and error.strerror:
        return UserError(f"cannot read {path}: {error.strerror}; give a readable file")
    return UserError(f"{path} is a corrupt {kind} file ({type(error).__name__}): replace it by a whole copy")
