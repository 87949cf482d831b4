"""From bindings to the experiment they describe, or to the one line that says why they describe none.

Scopes work as when gin builds: a reference with a scope replaces the scope it is used in, one without
inherits it, the value of a macro is built in the scope named like the macro, and a part in scope a/b takes, for each
field, the most specific of the bindings made in a/b, in a and without a scope.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vsml.config import fitting
from vsml.config.catalogue import ROOT, Catalogue, Field, Node, Part, nearest, suggest
from vsml.config.statements import (
    COMMAND_LINE,
    OF_SWEEPS,
    Binding,
    Key,
    Macro,
    Reference,
    shipped_files_that_set,
)
from vsml.errors import UserError

REQUIRED = Macro("gin.REQUIRED")


def check(bindings: Sequence[Binding], catalogue: Catalogue) -> None:
    """Checks each binding by itself: names, references, and the type of what is known without macros.

    Raises:
      UserError: for the first that is wrong.
    """
    for binding in bindings:
        problem = _problem_with_name(binding, bindings, catalogue) or _problem_with_references(binding.value, catalogue)
        if not problem and not binding.is_macro:
            part = _part(catalogue, binding.part)
            problem = _misfit(part, part.fields[binding.field], _without_macros(binding.value, catalogue), catalogue)
        if problem:
            raise UserError(f"{binding.where}: {problem}")


def resolve(recipe: str, bindings: Sequence[Binding], catalogue: Catalogue) -> tuple[list[Node], list[Binding]]:
    """The parts of the experiment, the root last, and the bindings that it uses.

    A binding that lost its effect to a later statement is left out; one that never had any is an error.

    Args:
      recipe: the place of the root in messages.
      bindings: all of them, checked, in order.
      catalogue: the parts.

    Raises:
      UserError: for an unset macro or field, a cycle, a wrong type, or a binding without effect.
    """
    final: dict[Key, Binding] = {}
    for binding in bindings:
        final.pop(binding.key, None)  # the order is that of the last assignments
        final[binding.key] = binding
    walk = Walk(recipe, final, catalogue)
    if walk.problems:
        raise UserError(walk.problems[0])

    @functools.cache
    def used_after(statements: int) -> set[Key]:
        return Walk(recipe, {binding.key: binding for binding in bindings[:statements]}, catalogue).used

    for index, binding in enumerate(bindings):
        ineffective = final[binding.key] is binding and binding.key not in walk.used
        if ineffective and not any(binding.key in used_after(n) for n in range(index + 1, len(bindings))):
            raise UserError(f"{binding.where}: {_unused(binding, walk)}")
    return walk.nodes, [binding for binding in final.values() if binding.key in walk.used]


class Walk:
    """Goes from the root through all that the bindings reach, as gin does when it builds."""

    def __init__(self, recipe: str, bindings: Mapping[Key, Binding], catalogue: Catalogue) -> None:
        self.bindings = bindings
        self._written = {key: place for place, key in enumerate(bindings)}
        self.catalogue = catalogue
        self.used: set[Key] = set()
        self.nodes: list[Node] = []  # in the order in which they can be built
        self.problems: list[str] = []
        self._node(Reference((), ROOT), recipe, ())

    def effective(self, scope: tuple[str, ...], part: str, field: str) -> Binding | None:
        """The binding that gives a field its value in a scope."""
        keys = ((scope[:length], part, field) for length in range(len(scope), -1, -1))
        return next((self.bindings[key] for key in keys if key in self.bindings), None)

    def _node(self, reference: Reference, where: str, outer: tuple[object, ...]) -> Any:
        part = _part(self.catalogue, reference.part)
        if reference in outer:
            self.problems.append(f"{where}: {part.name} is built from itself; break the cycle")
            return fitting.UNKNOWN
        values: dict[str, Any] = {}
        origins: dict[str, Binding] = {}
        for field in part.fields.values():
            binding = self.effective(reference.scope, part.name, field.name)
            if binding is None:
                if field.required:
                    self.problems.append(self._missing(reference, field, where))
                continue
            self.used.add(binding.key)
            value = self._value(binding.value, reference.scope, binding, (*outer, reference))
            origins[field.name] = self._origin(binding)
            problem = _misfit(part, field, value, self.catalogue)
            if problem:
                self.problems.append(f"{blamed(origins[field.name], part)}: {problem}")
            values[field.name] = value
        in_order = dict(sorted(origins.items(), key=lambda item: self._written[item[1].key]))
        node = Node(part, reference.scope, where, values, in_order)
        self.nodes.append(node)
        return node

    def _value(self, value: Any, scope: tuple[str, ...], binding: Binding, outer: tuple[object, ...]) -> Any:
        if isinstance(value, Macro):
            return self._macro(value, binding, outer)
        if isinstance(value, Reference):
            return self._node(Reference(value.scope or scope, value.part), binding.where, outer)
        if isinstance(value, tuple):
            return tuple(self._value(element, scope, binding, outer) for element in value)
        if isinstance(value, dict):
            return {k: self._value(v, scope, binding, outer) for k, v in value.items()}
        return value

    def _macro(self, macro: Macro, user: Binding, outer: tuple[object, ...]) -> Any:
        binding = self.bindings.get(((), "", macro.name))
        if macro == REQUIRED:
            example = "; give it on the command line, as NAME=VALUE" if user.is_macro else ""
            self.problems.append(f"{user.where}: {user.name} must be set{example.replace('NAME', user.name)}")
        elif binding is None:
            self.problems.append(f"{user.where}: {macro.name} is not set{self._who_sets(macro.name)}")
        elif macro in outer:
            self.problems.append(f"{binding.where}: {macro.name} is defined by itself; break the cycle")
        else:
            self.used.add(binding.key)
            return self._value(binding.value, (macro.name,), binding, (*outer, macro))
        return fitting.UNKNOWN

    def _origin(self, binding: Binding) -> Binding:
        """Where a value was written, when all macros are followed."""
        seen: list[Binding] = []
        while isinstance(binding.value, Macro) and binding not in seen:
            seen.append(binding)
            binding = self.bindings.get(((), "", binding.value.name), binding)
        return binding

    def _who_sets(self, macro: str) -> str:
        set_at = {binding.field: binding.where for binding in self.bindings.values() if binding.is_macro}
        near = nearest(macro, set_at)
        if near:
            return f"; did you mean {near} of {set_at[near]}?"
        files = shipped_files_that_set(macro)
        return f"; include one of {', '.join(files)}" if files else f"; give {macro}=VALUE on the command line"

    def _missing(self, reference: Reference, field: Field, where: str) -> str:
        elsewhere = [b for b in self.bindings.values() if (b.part, b.field) == (reference.part, field.name)]
        scoped = "/".join((*reference.scope, reference.part))
        if elsewhere:
            hint = f"{elsewhere[0].name} of {elsewhere[0].where} is for another scope, this is {scoped}"
        elif reference.part == ROOT:
            hint = "start the recipe with include 'experiment.gin'"
        else:
            hint = f"bind {reference.part}.{field.name}, it takes {fitting.describe(field.type)}"
        return f"{where}: {reference.part} needs {field.name}; {hint}"


def _part(catalogue: Catalogue, name: str) -> Part:
    part = catalogue.get(name)
    assert part is not None, f"{name} was not checked"
    return part


def blamed(origin: Binding, part: Part) -> str:
    """Where a value was written, with the name of its macro unless it sets a field of the root."""
    return f"{origin.where}: {origin.name}" if origin.is_macro and part.name != ROOT else origin.where


def _misfit(part: Part, field: Field, value: Any, catalogue: Catalogue) -> str:
    if fitting.fits(value, field.type):
        return fitting.out_of_range(value, part, field.name)
    mend = fitting.mend(value, field.type, catalogue)
    return f"{part.name}.{field.name} takes {fitting.describe(field.type)}, not {fitting.show(value)}{mend}"


def _without_macros(value: Any, catalogue: Catalogue) -> Any:
    """A value as far as it is known without its macros and its parts' fields."""
    if isinstance(value, Macro):
        return fitting.UNKNOWN
    if isinstance(value, Reference):
        return Node(_part(catalogue, value.part))
    if isinstance(value, tuple):
        return tuple(_without_macros(element, catalogue) for element in value)
    if isinstance(value, dict):
        return {key: _without_macros(element, catalogue) for key, element in value.items()}
    return value


def _problem_with_name(binding: Binding, bindings: Iterable[Binding], catalogue: Catalogue) -> str:
    if binding.is_macro:
        return _problem_with_macro(binding, bindings)
    part = catalogue.get(binding.part)
    if part is None and binding.part.partition(".")[0] in OF_SWEEPS:
        file = binding.where.rpartition(":")[0] if binding.where != COMMAND_LINE else "FILE"
        return f"{binding.name} belongs to a sweep, but this is a single run: `vsml sweep {file}` runs a sweep"
    if part is None:
        whole = f"{binding.part}.{binding.field}"
        if catalogue.get(whole):
            return f"{whole} is a part, not a field; to choose it, set a macro or a field to @{whole}()"
        return f"unknown part {binding.part}{catalogue.suggest(binding.part)}"
    if binding.field not in part.fields:
        fields = ", ".join(part.fields) or "none"
        near = suggest(binding.field, part.fields)
        return f"{part.name} has no field {binding.field}{near or f'; its fields are {fields}'}"
    return ""


def _problem_with_macro(binding: Binding, bindings: Iterable[Binding]) -> str:
    if binding.scope:
        return f"{binding.name} is not a macro: macros have no scope; a field is named scope/axis.Part.field"
    if binding.field.isupper():
        return ""
    macros = {b.field for b in bindings if b.is_macro and b.field.isupper()}
    near = f"; did you mean {binding.field.upper()}?" if binding.field.upper() in macros else ""
    return f"{binding.field} is neither a macro (UPPER_CASE) nor a field (axis.Part.field){near}"


def _problem_with_references(value: Any, catalogue: Catalogue) -> str:
    if isinstance(value, Reference):
        if catalogue.get(value.part) is None:
            return f"unknown part {value}{catalogue.suggest(value.part)}"
        return "" if value.evaluate else f"{value} names a part without building it; write {value}()"
    elements = value if isinstance(value, tuple) else value.values() if isinstance(value, dict) else ()
    return next((problem for e in elements if (problem := _problem_with_references(e, catalogue))), "")


def _unused(binding: Binding, walk: Walk) -> str:
    """Why a binding has no effect, and what may have been meant."""
    if binding.is_macro:
        macros = [field for _, part, field in walk.used if not part]
        return f"nothing uses {binding.name}{suggest(binding.field, sorted(macros))}"
    built = [node for node in walk.nodes if node.part.name == binding.part]
    inside = [node for node in built if node.scope[: len(binding.scope)] == binding.scope]
    if inside:
        winner = walk.effective(inside[0].scope, binding.part, binding.field)
        assert winner is not None, "a binding is used unless a more specific one is"
        return f"nothing uses {binding.name}: {winner.name} of {winner.where} always comes before it"
    if built:
        scopes = sorted({"/".join(node.scope) for node in built if node.scope and node.scope[0] not in _macros(walk)})
        scope = "/".join(binding.scope)
        near = suggest(scope, scopes) or f"; to build one there, write @{scope}/{binding.part}() where it is used"
        return f"nothing uses {binding.name}: no {binding.part} is built in the scope {scope}{near}"
    axis = binding.part.partition(".")[0]
    others = sorted({n.part.name for n in walk.nodes if n.part.name.startswith(f"{axis}.")})
    with_field = [f"{name}.{binding.field}" for name in others if binding.field in _part(walk.catalogue, name).fields]
    near = f"; did you mean {with_field[0]}?" if with_field else f"; it has {', '.join(others)}" if others else ""
    return f"nothing uses {binding.name}: the experiment has no {binding.part}{near}"


def _macros(walk: Walk) -> set[str]:
    return {field for _, part, field in walk.used if not part}
