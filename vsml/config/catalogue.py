"""The parts catalogue: what a gin file may name, which fields it has, and what comes out of it.

A part of an axis is a concrete frozen dataclass below the axis's base class, found by walking subclasses: a new part
needs no registration, and a third party's part becomes one by an `import` line in a gin file. Every public optax
function that returns a transformation or a schedule is a part of the axis `optax`.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import importlib
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import optax

from vsml.config.docstrings import meanings_of_class, meanings_of_function
from vsml.errors import UserError
from vsml.fields import mark_of

if TYPE_CHECKING:
    from vsml.config.statements import Binding

ROOT = "train"
"""The root: the part from which all other parts of an experiment are reached."""

AXES: Mapping[str, tuple[str, str]] = {
    "learners": ("vsml.learners", "vsml.learners.base.Learner"),
    "cells": ("vsml.cells", "vsml.cells.base.Cell"),
    "sharing": ("vsml.sharing", "vsml.sharing.base.Sharing"),
    "sparsity": ("vsml.sparsity", "vsml.sparsity.base.Sparsity"),
    "tasks": ("vsml.tasks", "vsml.tasks.base.TaskDistribution"),
    "sources": ("vsml.tasks.sources", "vsml.tasks.base.Source"),
    "transforms": ("vsml.tasks.transforms", "vsml.tasks.base.Transform"),
    "objectives": ("vsml.objectives", "vsml.objectives.base.Objective"),
    "meta_optimizers": ("vsml.meta_optimizers", "vsml.meta_optimizers.base.MetaOptimizer"),
    "evaluators": ("vsml.evaluation", "vsml.evaluation.base.Evaluator"),
}
"""Axis -> the package to import and the base class of its parts. A package may hold `PARTS`, a tuple of further frozen
dataclasses that gin files may name on that axis although they are not subclasses of its base."""


@dataclass(frozen=True)
class Field:
    """One field of a part: a constructor argument."""

    name: str
    type: Any
    default: Any = dataclasses.MISSING
    doc: str = ""  # its meaning, from a docstring
    mark: Mapping[str, Any] | None = None  # one of `vsml.fields`

    @property
    def required(self) -> bool:
        """Whether a config must bind it."""
        return self.default is dataclasses.MISSING


@dataclass(frozen=True, eq=False)
class Part:
    """What a gin file may name."""

    name: str  # `axis.Name`, or `train`
    make: Callable[..., Any]  # called with keyword arguments, the bound fields
    produces: type  # of what `make` returns
    summary: str  # first line of the docstring
    fields: Mapping[str, Field]


@dataclass(frozen=True, eq=False)
class Node:
    """One part of an experiment with the values that its fields are bound to, before it is built."""

    part: Part
    scope: tuple[str, ...] = ()
    where: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    origins: Mapping[str, Binding] = field(default_factory=dict)  # what set each value, the last one written last


@dataclass(frozen=True)
class Import:
    """An `import` line of a gin file."""

    text: str
    module: str
    where: str


class Catalogue:
    """The parts of this package and of the modules that a config imports."""

    def __init__(self, imports: Sequence[Import] = ()) -> None:
        self.parts = dict(_shipped())
        for statement in imports:
            self._add(statement)

    def get(self, name: str) -> Part | None:
        """The part of that full name."""
        return self.parts.get(name) or (_optax(name[6:]) if name.startswith("optax.") else None)

    def part_of(self, value: object) -> Part | None:
        """The part that a default value is an instance of."""
        return next((part for part in self.parts.values() if part.make is type(value)), None)

    def suggest(self, name: str) -> str:
        """Did-you-mean for an unknown part."""
        axis, _, short = name.rpartition(".")
        known = [*self.parts, *(f"optax.{function}" for function in _optax_names())]
        for cls in _below(_load(AXES[axis][1])) if axis in AXES else ():
            if cls.__name__ == short and _flaw(cls):
                return f"; {cls.__module__}.{short} is not a part: {_flaw(cls)}"
        same_name = [part for part in known if part.rpartition(".")[2].lower() == short.lower()]
        same_axis = [part for part in known if part.startswith(f"{axis}.")]
        return suggest(name, same_name) or suggest(name, same_axis or known)

    def _add(self, statement: Import) -> None:
        """Adds the parts defined in an imported module or package."""
        found = False
        for name, cls in _parts_where(lambda module: f"{module}.".startswith(f"{statement.module}.")):
            found = True
            known = self.parts.get(name)
            if known is not None and known.make is not cls:
                other = f"{known.make.__module__}.{known.make.__qualname__}"
                raise UserError(f"{statement.where}: {name} of {cls.__module__} is taken by {other}; rename the class")
            self.parts[name] = _of_class(name, cls)
        if not found:
            raise UserError(
                f"{statement.where}: {statement.module} defines no part; a part is a concrete frozen dataclass below "
                "one of the bases of vsml, such as vsml.cells.Cell"
            )


def suggest(word: str, choices: Iterable[str]) -> str:
    """`; did you mean X?` for the nearest of the choices, or nothing."""
    near = nearest(word, choices)
    return f"; did you mean {near}?" if near else ""


def nearest(word: str, choices: Iterable[str]) -> str:
    """The nearest of the choices, regardless of case, or nothing if none is near."""
    by_lower = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(word.lower(), by_lower, n=5, cutoff=0.6)
    # Swapped letters are the most common typing error, and difflib rates them low.
    near.sort(key=lambda choice: sorted(choice) != sorted(word.lower()))
    return by_lower[near[0]] if near else ""


def parts(axis: str | None = None) -> list[Part]:
    """The parts of one axis (`optax` is one too, `train` the experiment itself), or of all axes but optax.

    Raises:
      UserError: for an unknown axis.
    """
    axes = (*AXES, "optax", ROOT)
    if axis is not None and axis not in axes:
        near = suggest(axis, axes) or f"; the axes are {', '.join(axes)}"
        raise UserError(f"there is no axis {axis}{near}")
    if axis == "optax":
        return [part for name in _optax_names() if (part := _optax(name)) is not None]
    if axis == ROOT:
        return [_shipped()[ROOT]]
    return [part for name, part in _shipped().items() if name != ROOT and axis in (None, name.partition(".")[0])]


@functools.cache
def _shipped() -> dict[str, Part]:
    """The parts of this package, by axis and then by name."""
    found = {ROOT: _of_class(ROOT, _load("vsml.experiment.Experiment"))}
    for name, cls in _parts_where(lambda module: module.startswith("vsml.")):
        found.setdefault(name, _of_class(name, cls))
    return found


def _parts_where(belongs: Callable[[str], bool]) -> Iterator[tuple[str, type]]:
    """Names and classes of the parts whose module passes `belongs`."""
    for axis, (package, base) in AXES.items():
        extras = getattr(importlib.import_module(package), "PARTS", ())
        classes = {cls for cls in (*_below(_load(base)), *extras) if belongs(cls.__module__) and not _flaw(cls)}
        for cls in sorted(classes, key=lambda cls: (cls.__name__, cls.__module__)):
            yield f"{axis}.{cls.__name__}", cls


def _load(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _below(base: type) -> Iterator[type]:
    for cls in base.__subclasses__():
        yield cls
        yield from _below(cls)


def _flaw(cls: type) -> str:
    """Why a class cannot be a part, or nothing if it can."""
    parameters = cls.__dict__.get("__dataclass_params__")
    if parameters is None or not parameters.frozen:
        return "it is not decorated with @dataclass(frozen=True)"
    if inspect.isabstract(cls):
        return f"it does not define {', '.join(sorted(getattr(cls, '__abstractmethods__', ())))}"
    if cls.__name__.startswith("_") or getattr(sys.modules.get(cls.__module__), cls.__name__, None) is not cls:
        return f"{cls.__module__} does not hold it under a public name"
    return ""


def _of_class(name: str, cls: Any) -> Part:
    hints = _hints(cls)
    docs = meanings_of_class(cls)
    fields = {
        f.name: Field(f.name, hints.get(f.name, Any), _default(f), docs.get(f.name, ""), mark_of(f.metadata))
        for f in dataclasses.fields(cls)
        if f.init
    }
    return Part(name, cls, cls, _first_line(cls.__doc__), fields)


def _default(f: dataclasses.Field[Any]) -> Any:
    return f.default if f.default_factory is dataclasses.MISSING else f.default_factory()


def _of_function(name: str, function: Callable[..., Any], produces: type) -> Part:
    hints, docs = _hints(function), meanings_of_function(function)
    fields = {
        p.name: Field(
            p.name,
            hints.get(p.name, Any),
            dataclasses.MISSING if p.default is p.empty else p.default,
            doc=docs.get(p.name, ""),
        )
        for p in inspect.signature(function).parameters.values()
    }
    return Part(name, function, produces, _first_line(function.__doc__), fields)


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]


def _hints(thing: Any) -> dict[str, Any]:
    """Type hints; what cannot be resolved at run time counts as `Any`."""
    try:
        return typing.get_type_hints(thing)
    except (NameError, TypeError):
        raw = dict(getattr(thing, "__annotations__", {}))
        return {name: Any if isinstance(hint, str) else hint for name, hint in raw.items()}


def _chain(transforms: tuple[optax.GradientTransformation, ...]) -> optax.GradientTransformation:
    """Applies transformations in order: `optax.chain.transforms = [@optax.clip_by_global_norm(), @optax.adam()]`.

    Args:
      transforms: the transformations, in the order in which they are applied to meta-gradients.
    """
    return optax.chain(*transforms)


@functools.cache
def _optax_names() -> tuple[str, ...]:
    """Names of optax's transformations and schedules."""
    return tuple(name for name in sorted(vars(optax)) if _produces(name) is not None)


def _produces(name: str) -> type | None:
    """What a public optax function returns: a transformation, a schedule (a function), or nothing for a config."""
    function = None if name.startswith("_") else getattr(optax, name, None)
    if not inspect.isfunction(function):
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in inspect.signature(function).parameters.values()) and name != "chain":
        return None
    returned = _hints(function).get("return")
    if returned == optax.Schedule:
        return types.FunctionType
    return returned if isinstance(returned, type) and issubclass(returned, optax.GradientTransformation) else None


@functools.cache
def _optax(name: str) -> Part | None:
    """The part `optax.name`."""
    produces = _produces(name)
    if produces is None:
        return None
    return _of_function(f"optax.{name}", _chain if name == "chain" else getattr(optax, name), produces)
