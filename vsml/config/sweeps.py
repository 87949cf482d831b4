"""Sweep files: a recipe, settings that all points share, and the axes they differ on. gin sees only the points.

    include "recipes/quickstart.gin"           the recipe; further includes and bindings hold for every point
    STEPS = 300
    axes.SEED = [0, 1, 2]                      values of a macro, or of a field as in axes.cells.LSTM.size
    axes.learner = ["learners/vsml.gin", ...]  gin files and KEY=VALUE; {"label": ...} names the points

An included file that has axes of its own adds them, so that sweeps can share some.

`sweep.zip` names axes that advance together, `sweep.tags` labels the sweep, `sweep.skip_refused` leaves out points that
make no sense, and `sweep.extend` trains points of another number of meta-steps on to this one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeGuard

from vsml.config import fitting, statements
from vsml.config.catalogue import Import, suggest
from vsml.config.config import literal
from vsml.config.statements import AXES, COMMAND_LINE, OF_SWEEPS, SWEEP, Binding, Include, Macro, Reference
from vsml.errors import UserError

SETTINGS: Mapping[str, Any] = {"zip": tuple[str, ...], "tags": tuple[str, ...], "skip_refused": bool, "extend": bool}
"""The settings `sweep.NAME`, and their types."""


@dataclass(frozen=True)
class Override:
    """A gin file or KEY=VALUE, and where it was written."""

    text: str
    place: str


@dataclass(frozen=True)
class Choice:
    """One point of one axis."""

    label: str
    overrides: tuple[Override, ...]


@dataclass(frozen=True)
class Axis:
    """What the points of a sweep differ on."""

    name: str  # one word, unique in the sweep
    key: str  # the macro or field that it sets, '' where it names gin files or several settings
    choices: tuple[Choice, ...]
    where: str


@dataclass(frozen=True)
class SweepFile:
    """A sweep file and what the command line added to it."""

    path: str
    recipe: str
    shared: tuple[Override, ...]
    axes: tuple[Axis, ...]
    zipped: tuple[str, ...]  # axes that advance together
    tags: tuple[str, ...]
    skip_refused: bool  # whether points that make no sense are left out
    extend: bool  # whether points trained for another number of meta-steps go on to the one asked for


def read_sweep(name: str, words: Sequence[str] = ()) -> SweepFile:
    """Reads a sweep file.

    Args:
      name: `sharing`, `sweeps/sharing.gin`, or a path.
      words: gin files and KEY=VALUE that hold for every point, before its own; `axes.KEY=[...]` and `sweep.KEY=VALUE`
        replace or add what the file says.

    Raises:
      UserError: for what cannot be read or makes no sense, in one line with its place.
    """
    path = statements.find_recipe(name, "sweeps")
    recipe, shared, own = "", [], {}
    for statement in _flat(path):
        if isinstance(statement, Import):
            raise UserError(
                f"{statement.where}: a sweep file cannot import modules: put `{statement.text}` into its recipe or a "
                "gin file that it includes"
            )
        if isinstance(statement, Include):
            if recipe:
                shared.append(Override(statement.file, statement.where))
            else:
                recipe = statement.file
        elif _is_own(statement):
            own[statement.key] = statement
        else:
            shared.append(Override(f"{statement.name}={literal(statement.value)}", statement.where))
    if not recipe:
        raise UserError(f"{path}: a sweep file starts with the recipe, as in include 'recipes/quickstart.gin'")
    for word in words:
        binding = None if statements.is_file(word) else statements.read_override(word, COMMAND_LINE)
        if binding is not None and _is_own(binding):
            own[binding.key] = binding
        else:
            shared.append(Override(word, COMMAND_LINE))

    axes = _axes([binding for binding in own.values() if binding.part.partition(".")[0] == AXES])
    settings = {b.field: _setting(b, axes) for b in own.values() if b.part.partition(".")[0] == SWEEP}
    if not axes:
        raise UserError(f"{path}: it names no axis, so there is nothing to sweep: add one, as in axes.SEED = [0, 1, 2]")
    _refuse_shared_settings_of_axes(shared, axes)
    zipped = settings.get("zip", ())
    _check_zip(path, [axis for axis in axes if axis.name in zipped])
    return SweepFile(
        path=path,
        recipe=recipe,
        shared=tuple(shared),
        axes=tuple(axes),
        zipped=zipped,
        tags=settings.get("tags", ()),
        skip_refused=settings.get("skip_refused", False),
        extend=settings.get("extend", False),
    )


def _flat(path: str, outer: tuple[str, ...] = ()) -> Iterator[Binding | Import | Include]:
    """The statements of a sweep file; an included file that has axes stands there with its own."""
    for statement in statements.read_flat(path):
        if isinstance(statement, Include) and statements.exists(statement.file):
            if statement.file in (*outer, path):
                raise UserError(f"{statement.where}: {statement.file} includes itself; remove this include")
            if any(map(_is_own, statements.read_flat(statement.file, statement.where))):
                yield from _flat(statement.file, (*outer, path))
                continue
        yield statement


def _is_own(statement: Binding | Import | Include) -> TypeGuard[Binding]:
    """Whether a statement is about the sweep itself."""
    return isinstance(statement, Binding) and statement.part.partition(".")[0] in OF_SWEEPS


def _setting(binding: Binding, axes: Iterable[Axis]) -> Any:
    if binding.part != SWEEP or binding.scope or binding.field not in SETTINGS:
        near = suggest(binding.field, SETTINGS) or f"; there are {', '.join(SETTINGS)}"
        raise UserError(f"{binding.where}: there is no setting {binding.name} of a sweep{near}")
    wanted = SETTINGS[binding.field]
    if not fitting.fits(binding.value, wanted):
        shown = fitting.show(binding.value)
        raise UserError(f"{binding.where}: {binding.name} takes {fitting.describe(wanted)}, not {shown}")
    names = [axis.name for axis in axes]
    for name in binding.value if binding.field == "zip" else ():
        if name not in names:
            near = suggest(name, names) or f"; the axes are {', '.join(names)}"
            raise UserError(f"{binding.where}: sweep.zip names {name}, which is not an axis{near}")
    return binding.value


def _axes(bindings: Sequence[Binding]) -> list[Axis]:
    keys = [".".join((*binding.part.split(".")[1:], binding.field)) for binding in bindings]
    short = [key.rpartition(".")[2].lower() for key in keys]
    axes = []
    for binding, key, name in zip(bindings, keys, short, strict=True):
        if binding.scope:
            raise UserError(
                f"{binding.where}: an axis has no scope: write the scope into its points, as in axes.{name} = "
                f"['{'/'.join(binding.scope)}/{key}=VALUE', ...]"
            )
        unique = name if short.count(name) == 1 else key
        axes.append(_axis(binding, key, unique))
    return axes


def _axis(binding: Binding, key: str, name: str) -> Axis:
    values = binding.value
    if not isinstance(values, tuple | dict) or not values:
        raise UserError(
            f"{binding.where}: {binding.name} takes a list of points, or a dict of label and point, not "
            f"{fitting.show(values)}"
        )
    sets_key = "." in key or key.isupper()
    labelled = [(str(label), value) for label, value in values.items()] if isinstance(values, dict) else None
    choices = []
    for label, value in labelled or [(None, value) for value in values]:
        texts = [f"{key}={literal(value)}"] if sets_key else _texts(binding, value)
        shown = label or (_label(value) if sets_key else "+".join(map(_label_of_text, texts)))
        place = f"{binding.where}, {name}={shown}"
        choices.append(Choice(shown, tuple(Override(text, place) for text in texts)))
    labels = ["_".join(choice.label.split()) for choice in choices]
    for label in labels:
        if labels.count(label) > 1 or not label:
            wrong = f"two points are called '{label}'" if label else "a point has no label"
            raise UserError(f"{binding.where}: {binding.name}: {wrong}: name them, as in {{'label': point}}")
    return Axis(name, key if sets_key else "", tuple(choices), binding.where)


def _texts(binding: Binding, value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else list(value) if isinstance(value, tuple) else [value]
    for text in texts:
        if not isinstance(text, str):
            hint = f"; did you mean axes.{binding.field.upper()}?" if not isinstance(text, tuple | dict) else ""
            raise UserError(
                f"{binding.where}: a point of {binding.name} is a gin file, 'KEY=VALUE' or a list of both, not "
                f"{fitting.show(text)}{hint}"
            )
    return texts


def _label_of_text(text: str) -> str:
    """`gru` of cells/gru.gin, `8` of cells.LSTM.size=8."""
    if statements.is_file(text):
        return PurePosixPath(text).stem
    return text.partition("=")[2].strip().strip("'\"@()") or text


def _label(value: Any) -> str:
    """A short name for a value."""
    if isinstance(value, Reference):
        return value.part.rpartition(".")[2]
    if isinstance(value, Macro):
        return value.name
    if isinstance(value, tuple):
        return "-".join(map(_label, value)) or "none"
    if isinstance(value, dict):
        return "-".join(f"{key}-{_label(element)}" for key, element in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _refuse_shared_settings_of_axes(shared: Iterable[Override], axes: Iterable[Axis]) -> None:
    """Raises `UserError` for a shared setting that every point of an axis replaces: it would be lost silently."""
    for axis in axes:
        for override in shared:
            if axis.key and re.sub(r"\s", "", override.text).startswith(f"{axis.key}="):
                value = override.text.partition("=")[2].strip()
                raise UserError(
                    f"{override.place}: {axis.key} is an axis of this sweep ({axis.where}): give its points, as in "
                    f"axes.{axis.key}=[{value}]"
                )


def _check_zip(path: str, zipped: Sequence[Axis]) -> None:
    lengths = {axis.name: len(axis.choices) for axis in zipped}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise UserError(f"{path}: axes that are zipped need as many points each ({shown})")
