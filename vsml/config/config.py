"""One resolved config: its text, its JSON, and the experiment that gin builds from it."""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gin import config as gin

from vsml.config import resolution, statements
from vsml.config.catalogue import ROOT, Catalogue, Import, Node, Part
from vsml.config.statements import Binding, Key, Macro, Reference
from vsml.errors import UserError
from vsml.fields import mark_of

if TYPE_CHECKING:
    from vsml.experiment import Experiment

ABSENT = "(absent)"
_LINE = 110


def load(recipe: str, overrides: Sequence[str] = (), places: Sequence[str] = ()) -> Config:
    """Reads and checks a recipe and what follows it, in the order given, each as a layer on top.

    Args:
      recipe: `quickstart`, `recipes/quickstart.gin`, or the path of a gin file.
      overrides: gin files (ending in .gin) and KEY=VALUE, where KEY is a macro or `scope/axis.Part.field`.
      places: where each of the overrides was written, for messages; all on the command line if empty.

    Raises:
      UserError: for whatever is wrong with it, in one line: `FILE:LINE: what; did you mean X?`.
    """
    recipe = statements.find_recipe(recipe)
    read = statements.read(recipe, overrides, places)
    imports = list({statement.text: statement for statement in read if isinstance(statement, Import)}.values())
    bindings = [statement for statement in read if isinstance(statement, Binding)]
    for statement in imports:
        statements.run_import(statement)
    catalogue = Catalogue(imports)
    resolution.check(bindings, catalogue)
    nodes, used = resolution.resolve(recipe, bindings, catalogue)
    return Config(recipe, tuple(imports), tuple(sorted(used, key=_order)), tuple(nodes), catalogue)


@dataclass(frozen=True, eq=False, repr=False)
class Config:
    """A checked config. Nothing is built yet; `build` does that."""

    recipe: str
    imports: tuple[Import, ...]
    bindings: tuple[Binding, ...]  # those with an effect, in the order of `text`
    nodes: tuple[Node, ...]  # the parts, each after those it is built from; the last is the experiment
    catalogue: Catalogue

    @cached_property
    def text(self) -> str:
        """All bindings with an effect, as gin; `load` gives the same text again."""
        return _render(self.imports, [(b.key, _assignment(b.name, b.value)) for b in self.bindings])

    @cached_property
    def operative(self) -> str:
        """`text` and every default that is in effect; a default that gin cannot write is a comment."""
        lines = {b.key: _assignment(b.name, b.value) for b in self.bindings}
        for node in self.nodes:
            for field in node.part.fields.values():
                if field.name not in node.values:
                    lines[(), node.part.name, field.name] = _default_line(node.part, field.name, field.default)
        return _render(self.imports, sorted(lines.items(), key=lambda line: _order_of_key(line[0])))

    @cached_property
    def json(self) -> dict[str, Any]:
        """The experiment as plain data: macros as gin text or numbers, parts with all their fields and defaults."""
        macros = {binding.field: self._plain_macro(binding.value) for binding in self.bindings if binding.is_macro}
        return {"recipe": self.recipe, "macros": macros, ROOT: self._plain(self.nodes[-1])}

    def differences(self, other: Config | Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
        """Where another config, or its JSON, differs from this one.

        Returns:
          (key, old, new) for every leaf of the experiment that differs, such as ('train.learner.cell.size', 16, 32);
          the old value is the one here, and what one side lacks is '(absent)'. Of macros only the effect counts.
        """
        old = leaves(self.json[ROOT], ROOT)
        new = leaves((other.json if isinstance(other, Config) else other)[ROOT], ROOT)
        keys = dict.fromkeys((*old, *new))
        changes = [(key, old.get(key, ABSENT), new.get(key, ABSENT)) for key in keys]
        return [(key, before, after) for key, before, after in changes if before != after]

    def mark(self, key: str) -> Mapping[str, Any] | None:
        """The mark (see `vsml.fields`) of the field that a key of `differences` names, or of the nearest around it."""
        around = [field for field in self._marks if re.match(rf"{re.escape(field)}(?![^.\[])", key)]
        return self._marks[max(around, key=len)] if around else None

    @cached_property
    def _marks(self) -> dict[str, Mapping[str, Any]]:
        """Marked fields of the experiment and of all its parts: key -> mark."""
        return dict(_marked(self.nodes[-1], ROOT))

    def build(self) -> Experiment:
        """Lets gin build the experiment, and leaves gin's global state empty.

        Raises:
          UserError: for what the constructor of a part refuses, with the place where the part was asked for; what the
            constructor raised is its cause.
        """
        gin.clear_config()
        try:
            for part in {node.part.name: node.part for node in self.nodes}.values():
                _register(part)
            for binding in self.bindings:
                gin.bind_parameter(_gin_key(binding), gin.parse_value(literal(binding.value)))
            return gin.get_configurable(_gin_name(ROOT))()
        except _Refusal as refusal:
            raise UserError(self._refused(refusal.part, refusal.scope, refusal.cause)) from refusal.cause
        finally:
            gin.clear_config()

    def _refused(self, part: str, scope: tuple[str, ...], cause: Exception) -> str:
        node = next((node for node in self.nodes if (node.part.name, node.scope) == (part, scope)), None)
        message = " ".join(str(cause).split()) or type(cause).__name__
        where = self._blamed(node, message) if node else self.recipe
        return f"{where}: {message}" if message.startswith(part) else f"{where}: {part}: {message}"

    @staticmethod
    def _blamed(node: Node, message: str) -> str:
        """Where the field that a message names was set, the last one of several; else where the part was asked for."""
        for mention in (rf"\b{re.escape(node.part.name)}\.{{}}\b", r"\b{}\b"):
            named = [b for name, b in node.origins.items() if re.search(mention.format(name), message)]
            if named:
                return resolution.blamed(named[-1], node.part)
        return node.where

    def _plain(self, value: Any) -> Any:
        """A value as JSON knows it."""
        if isinstance(value, Node):
            fields = {f.name: value.values.get(f.name, f.default) for f in value.part.fields.values()}
            return {"part": value.part.name, **{name: self._plain(field) for name, field in fields.items()}}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            known = self.catalogue.part_of(value)
            fields = {f.name: self._plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
            return {"part": known.name if known else type(value).__qualname__, **fields}
        if isinstance(value, tuple | list):
            return [self._plain(element) for element in value]
        if isinstance(value, Mapping):
            return {str(key): self._plain(element) for key, element in value.items()}
        finite = isinstance(value, float) and math.isfinite(value)  # JSON cannot write the others
        is_plain = value is None or finite or isinstance(value, bool | int | str)
        return value if is_plain else _name_of(value)

    def _plain_macro(self, value: Any) -> Any:
        return literal(value) if _holds_gin(value) else self._plain(value)


def _marked(value: Any, key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The marked fields of a part and below it, by their keys."""
    if isinstance(value, tuple | list):
        for index, element in enumerate(value):
            yield from _marked(element, f"{key}[{index}]")
    elif isinstance(value, Mapping):
        for name, element in value.items():
            yield from _marked(element, f"{key}.{name}")
    elif isinstance(value, Node):
        for field in value.part.fields.values():
            if field.mark:
                yield f"{key}.{field.name}", field.mark
            yield from _marked(value.values.get(field.name, field.default), f"{key}.{field.name}")
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):  # a default
        for f in dataclasses.fields(value):
            if mark := mark_of(f.metadata):
                yield f"{key}.{f.name}", mark
            yield from _marked(getattr(value, f.name), f"{key}.{f.name}")


class _Refusal(Exception):
    """A constructor's error on its way through gin."""

    def __init__(self, part: str, scope: tuple[str, ...], cause: Exception) -> None:
        super().__init__(str(cause))
        self.part, self.scope, self.cause = part, scope, cause


_registered: dict[str, Callable[..., Any]] = {}


def _register(part: Part) -> None:
    """Makes a part known to gin, by a function of its own; the class itself is unchanged."""
    if _registered.get(part.name) is part.make:
        return

    def construct(**fields: Any) -> Any:
        try:
            return part.make(**fields)
        except (UserError, ValueError, TypeError) as error:
            raise _Refusal(part.name, tuple(gin.current_scope()), error) from error

    with gin.interactive_mode():  # another config may have registered a part of the same name
        gin.external_configurable(construct, name=_gin_name(part.name))
    _registered[part.name] = part.make


def _gin_name(part: str) -> str:
    """The exact name in gin's registry, which finds a part by any unambiguous end of its name."""
    return f"vsml.{part}" if part == ROOT else part


def _gin_key(binding: Binding) -> tuple[str, str, str]:
    if binding.is_macro:
        return binding.field, "gin.macro", "value"
    return "/".join(binding.scope), _gin_name(binding.part), binding.field


def _order(binding: Binding) -> tuple[Any, ...]:
    return _order_of_key(binding.key)


def _order_of_key(key: Key) -> tuple[Any, ...]:
    """Macros first, then the root, then the parts."""
    scope, part, field = key
    return bool(part), part != ROOT, part, scope, field


def _render(imports: Iterable[Import], lines: Iterable[tuple[Key, str]]) -> str:
    """A gin file: imports, macros, and a paragraph per part."""
    paragraphs: dict[tuple[Any, ...], list[str]] = {(): [statement.text for statement in imports]}
    for (scope, part, _), line in lines:
        paragraphs.setdefault((scope, part), []).append(line)
    return "\n\n".join("\n".join(paragraph) for paragraph in paragraphs.values() if paragraph) + "\n"


def _assignment(name: str, value: Any) -> str:
    line = f"{name} = {literal(value)}"
    if len(line) <= _LINE or not isinstance(value, tuple):
        return line
    return "\n".join((f"{name} = (", *(f"    {literal(element)}," for element in value), ")"))


def _default_line(part: Part, field: str, default: Any) -> str:
    line = _assignment(f"{part.name}.{field}", default)
    return line if _is_literal(default) else f"# {part.name}.{field} = {_name_of(default)}"


def _is_literal(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_literal, value))
    return value is None or isinstance(value, bool | int | float | str)


def _holds_gin(value: Any) -> bool:
    """Whether a value holds references or macros, which only gin can write."""
    elements = value if isinstance(value, tuple) else value.values() if isinstance(value, dict) else ()
    return isinstance(value, Reference | Macro) or any(map(_holds_gin, elements))


def literal(value: Any) -> str:
    """A value in gin's notation."""
    if isinstance(value, tuple):
        elements = ", ".join(map(literal, value))
        return f"({elements},)" if len(value) == 1 else f"({elements})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{literal(key)}: {literal(element)}' for key, element in value.items())}}}"
    if isinstance(value, float) and math.isinf(value):
        return "1e999" if value > 0 else "-1e999"
    return repr(value)


def _name_of(value: Any) -> str:
    """A name for what neither gin nor JSON can write, the same in every process."""
    if inspect.isroutine(value) or isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def leaves(tree: Any, key: str) -> dict[str, Any]:
    """The leaves of an experiment's JSON by path; a part is a leaf of its own name, with its fields below."""
    if isinstance(tree, list) and tree:
        branches = {f"{key}[{index}]": element for index, element in enumerate(tree)}
    elif isinstance(tree, dict) and tree:
        branches = {key if name == "part" else f"{key}.{name}": element for name, element in tree.items()}
    else:
        return {key: tree}
    return {leaf: value for name, branch in branches.items() for leaf, value in leaves(branch, name).items()}
