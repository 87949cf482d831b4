"""From gin files and the command line to a list of bindings, each with the place it was made.

gin's own parser reads the statements; files are found here: first below the shipped gin folder, then below the working
directory, never beside the including file.
"""

from __future__ import annotations

import functools
import importlib
import re
import sys
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gin import config_parser

from vsml.config.catalogue import Import, suggest
from vsml.errors import UserError
from vsml.shipped import gin_root, recipes, shipped_files

COMMAND_LINE = "command line"
OF_SWEEPS = AXES, SWEEP = "axes", "sweep"
"""What the names in a sweep file begin with; no part begins so."""
_KEY = re.compile(r"(?:\w+/)*\w+(?:\.\w+)*")
_BARE_WORD = re.compile(r"[\w./-][\w./@:-]*(?:\[[\d:-]*\])?")
Key = tuple[tuple[str, ...], str, str]


@dataclass(frozen=True)
class Reference:
    """`@scope/axis.Part()`: a part, built where it is used."""

    scope: tuple[str, ...]
    part: str
    evaluate: bool = True

    def __repr__(self) -> str:
        return f"@{'/'.join((*self.scope, self.part))}{'()' if self.evaluate else ''}"


@dataclass(frozen=True)
class Macro:
    """`%NAME`: the value that NAME is bound to."""

    name: str

    def __repr__(self) -> str:
        return f"%{self.name}"


@dataclass(frozen=True)
class Binding:
    """`scope/part.field = value`, or `field = value` for a macro, which has an empty part."""

    scope: tuple[str, ...]
    part: str
    field: str
    value: Any
    where: str  # `FILE:LINE`, or the command line

    @property
    def key(self) -> Key:
        """What is bound."""
        return self.scope, self.part, self.field

    @property
    def is_macro(self) -> bool:
        return not self.part

    @property
    def name(self) -> str:
        """What is bound, in gin's notation."""
        return "/".join((*self.scope, f"{self.part}.{self.field}" if self.part else self.field))


@dataclass(frozen=True)
class Include:
    """An `include` line."""

    file: str
    where: str


@functools.cache
def shipped_files_that_set(macro: str) -> list[str]:
    """Shipped files outside the recipes that bind a macro."""
    sets = re.compile(rf"^{re.escape(macro)}\s*=", re.MULTILINE)
    names = [name for name in shipped_files() if not name.startswith(("recipes/", "sweeps/"))]
    return [name for name in names if sets.search((gin_root() / name).read_text(encoding="utf-8"))]


def find_recipe(name: str, folder: str = "recipes") -> str:
    """The file that the name of a recipe, or a sweep, means: `quickstart`, `recipes/quickstart.gin`, or a path.

    Raises:
      UserError: if there is none.
    """
    candidates = [name, f"{folder}/{name}"] if name.endswith(".gin") else [f"{folder}/{name}.gin", f"{name}.gin"]
    for candidate in candidates:
        path = _find(candidate)
        if path is not None:
            inside = path.resolve().is_relative_to(gin_root())
            return path.resolve().relative_to(gin_root()).as_posix() if inside else candidate
    shipped = [path for path, _ in recipes(folder)]
    short = [path.removeprefix(f"{folder}/").removesuffix(".gin") for path in shipped]
    listed = "; `vsml recipes` lists them" if folder == "recipes" else f"; shipped are {', '.join(shipped) or 'none'}"
    near = suggest(name, shipped if name.endswith(".gin") else short)
    raise UserError(f"{COMMAND_LINE}: there is no {folder.removesuffix('s')} {name}{near or listed}")


def read(recipe: str, overrides: Sequence[str], places: Sequence[str] = ()) -> list[Binding | Import]:
    """All statements of a recipe and of what follows it, in order.

    Args:
      recipe: a gin file.
      overrides: gin files and KEY=VALUE.
      places: where each of the overrides was written; all on the command line if empty.

    Raises:
      UserError: for what cannot be found or read, in one line with its place.
    """
    statements = list(_read_file(recipe, COMMAND_LINE, ()))
    for override, place in zip(overrides, places or [COMMAND_LINE] * len(overrides), strict=True):
        if is_file(override):
            statements.extend(_read_file(override, place, ()))
        else:
            statements.append(read_override(override, place))
    return statements


def macros_set_by(overrides: Sequence[str]) -> set[str]:
    """The macros that overrides bind. Raises `UserError` for what cannot be read."""
    found: set[str] = set()
    for override in overrides:
        read = _read_file(override, COMMAND_LINE, ()) if is_file(override) else [read_override(override, COMMAND_LINE)]
        found |= {statement.field for statement in read if isinstance(statement, Binding) and statement.is_macro}
    return found


def is_file(override: str) -> bool:
    """Whether an override names a gin file and is not KEY=VALUE."""
    return override.endswith(".gin") and ("=" not in override or _find(override) is not None)


def run_import(statement: Import) -> None:
    """Imports a user's module, from Python's path or from the working directory.

    Raises:
      UserError: if that fails, for whatever reason.
    """
    here = str(Path.cwd())
    sys.path.append(here)
    importlib.invalidate_caches()
    try:
        importlib.import_module(statement.module)
    except Exception as error:
        cause = " ".join(str(error).split())
        raise UserError(f"{statement.where}: `{statement.text}` failed: {type(error).__name__}: {cause}") from error
    finally:
        sys.path.remove(here)


def exists(name: str) -> bool:
    """Whether there is such a gin file, shipped or below the working directory."""
    return _find(name) is not None


def _find(name: str) -> Path | None:
    roots = [Path.cwd()] if name.startswith(("./", "../")) else [gin_root(), Path.cwd()]
    return next((path for path in (root / name for root in roots) if path.is_file()), None)


def _read_file(name: str, included_at: str, outer: tuple[Path, ...]) -> Iterator[Binding | Import]:
    path = _find(name)
    if path is None:
        near = suggest(name, shipped_files()) or _same_file_name(name)
        raise UserError(f"{included_at}: no gin file {name}, neither shipped nor below the working directory{near}")
    if path in outer:
        raise UserError(f"{included_at}: {name} includes itself; remove this include")
    for statement in _statements(path, name, included_at):
        if isinstance(statement, Include):
            yield from _read_file(statement.file, statement.where, (*outer, path))
        else:
            yield statement


def read_flat(name: str, included_at: str = COMMAND_LINE) -> list[Binding | Import | Include]:
    """The statements of one file that exists, as by `find_recipe`, its includes not opened. Raises `UserError`."""
    path = _find(name)
    assert path is not None, f"{name} was not found"
    return list(_statements(path, name, included_at))


def _statements(path: Path, name: str, included_at: str) -> Iterator[Binding | Import | Include]:
    """The statements of one file. Raises `UserError` for a binding that is set twice."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{included_at}: {name} cannot be read as text: {error}") from None
    seen: dict[Key, str] = {}
    for statement in _parse(text, name):
        where = f"{name}:{statement.location.line_num}"
        if isinstance(statement, config_parser.IncludeStatement):
            yield Include(statement.filename, where)
        elif isinstance(statement, config_parser.ImportStatement):
            yield _import(statement, where)
        elif isinstance(statement, config_parser.BindingStatement):
            binding = _binding(statement, where)
            if binding.key in seen:
                raise UserError(f"{where}: {binding.name} is already set in {seen[binding.key]}; remove one of the two")
            seen[binding.key] = where
            yield binding


def _same_file_name(name: str) -> str:
    same = [file for file in shipped_files() if Path(file).name == Path(name).name]
    return f"; did you mean {same[0]}?" if same else ""


class _Delegate(config_parser.ParserDelegate):
    """Turns references and macros of gin's parser into those of this module."""

    def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> Reference:
        *scope, part = scoped_configurable_name.split("/")
        return Reference(tuple(scope), part, evaluate)

    def macro(self, macro_name: str) -> Macro:
        return Macro(macro_name)


def _parse(text: str, name: str) -> Iterator[Any]:
    """The statements of a file, as gin reads them."""
    try:
        yield from config_parser.ConfigParser(text, _Delegate())
    except SyntaxError as error:
        raise UserError(f"{name}:{error.lineno or 1}: {_complaint(error.msg)}") from None
    except tokenize.TokenError as error:
        line = min(error.args[1][0], len(text.splitlines()))  # Python 3.11 counts one line too many
        raise UserError(f"{name}:{line}: a bracket or a string is not closed") from None


def _complaint(message: str) -> str:
    """gin's syntax errors in plain words."""
    token = re.search(r"Failed to parse token '(.*)'", message)
    if token:
        return f"cannot read {token[1]}; a string needs quotes, a part an @ and (), a macro a %"
    return f"cannot be read: {message.splitlines()[0].rstrip('.')}"


def _import(statement: config_parser.ImportStatement, where: str) -> Import:
    if statement.module.startswith("__gin__"):
        raise UserError(f"{where}: remove `{statement.format()}`: all parts are known as axis.Name")
    return Import(statement.format(), statement.module, where)


def _binding(statement: config_parser.BindingStatement, where: str) -> Binding:
    scope = tuple(statement.scope.split("/")) if statement.scope else ()
    value = _frozen(statement.value)
    if not statement.arg_name:
        return Binding(scope, "", statement.selector, value, where)
    return Binding(scope, statement.selector, statement.arg_name, value, where)


def _frozen(value: Any) -> Any:
    """A value with tuples in place of lists, so that the parts that hold them can be hashed."""
    if isinstance(value, list | tuple):
        return tuple(map(_frozen, value))
    if isinstance(value, dict):
        return {_frozen(key): _frozen(element) for key, element in value.items()}
    return value


def read_override(text: str, place: str) -> Binding:
    """The binding that KEY=VALUE stands for. Raises `UserError` where it is not valid."""
    key, equals, value = (piece.strip() for piece in text.partition("="))
    if not equals:
        near = suggest(text, shipped_files())
        raise UserError(f"{place}: {text} is neither a gin file nor KEY=VALUE{near}")
    if not _KEY.fullmatch(key):
        raise UserError(f"{place}: {key} is not a key; a key is a macro, such as STEPS, or axis.Part.field")
    if not value:
        raise UserError(f"{place}: {key}= gives no value; write {key}=VALUE")
    *scope, name = key.split("/")
    part, _, field = name.rpartition(".")
    return Binding(tuple(scope), part, field, _evaluated(_frozen(_read_value(key, value, place))), place)


def _read_value(key: str, text: str, place: str) -> Any:
    """A value of an override: a gin literal, or a bare word."""
    try:
        parser = config_parser.ConfigParser(text, _Delegate())
        value = parser.parse_value()
        end = parser.current_token
        if end and end.type in (tokenize.NEWLINE, tokenize.ENDMARKER):
            if re.split(r"\r\n?|\n", text)[end.start[0] :]:
                raise UserError(
                    f"{place}: a line break ends the value of {key}: give what follows as its own KEY=VALUE"
                )
            return value
    except (SyntaxError, tokenize.TokenError):
        pass
    if _BARE_WORD.fullmatch(text):
        return text
    raise UserError(f"{place}: cannot read the value of {key}={text}; a string of several words needs quotes")


def _evaluated(value: Any) -> Any:
    """In an override, where brackets need quoting, `@cells.GRU` means `@cells.GRU()`."""
    if isinstance(value, Reference):
        return replace(value, evaluate=True)
    if isinstance(value, tuple):
        return tuple(map(_evaluated, value))
    if isinstance(value, dict):
        return {key: _evaluated(element) for key, element in value.items()}
    return value
