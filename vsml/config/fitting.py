"""Whether a value of a config fits the annotation of the field it is bound to, and what to say if it does not.

The rules are strict: an int is a float, but a bool is not a number; every element of a list is checked; a part fits
where its class does. Annotations that cannot be checked at run time accept anything.
"""

from __future__ import annotations

import collections.abc
import math
import types
import typing
from typing import Any, Literal

import numpy as np

from vsml.config.catalogue import Catalogue, Node, Part, suggest

_SMALLEST, _LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
_RATES = ("learning_rate", "init_value", "peak_value", "end_value", "boundaries_and_scales", "decay_rate", "alpha")
_OF_OPTAX = {**dict.fromkeys(_RATES, (0.0, math.inf)), **dict.fromkeys(("b1", "b2", "decay", "momentum"), (0.0, 1.0))}
"""Fields that optax does not check itself: their least value, and the number that they must stay below."""
_OF_ARRAYS = ("Array", "ndarray", "bool", "number", "int", "float", "complex")
UNKNOWN = object()
"""A value that is not known yet, or is reported as missing elsewhere: it fits everywhere."""


def fits(value: object, hint: Any) -> bool:
    """Whether `value` may be bound to a field annotated `hint`. Lists are tuples here, parts are `Node`s."""
    if value is UNKNOWN or hint is Any:
        return True
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is None or not arguments:
        return _fits_class(value, origin or hint)
    if origin is typing.Annotated:
        return fits(value, arguments[0])
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, choice) for choice in arguments)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and _fits_tuple(value, arguments)
    if not isinstance(origin, type) or issubclass(origin, collections.abc.Callable):  # pyright: ignore[reportArgumentType]
        return _fits_class(value, origin)
    if issubclass(origin, collections.abc.Mapping):
        return isinstance(value, dict) and all(
            fits(k, arguments[0]) and fits(v, arguments[1]) for k, v in value.items()
        )
    if issubclass(origin, collections.abc.Iterable):
        return isinstance(value, tuple) and all(fits(element, arguments[0]) for element in value)
    return _fits_class(value, origin)


def out_of_range(value: object, part: Part, field: str) -> str:
    """What is wrong with a number that the arrays of a part cannot hold, or nothing. A user's part checks itself."""
    if part.make.__module__.partition(".")[0] not in ("vsml", "optax"):
        return ""
    if isinstance(value, tuple | dict):
        elements = value.values() if isinstance(value, dict) else value
        return next((problem for e in elements if (problem := out_of_range(e, part, field))), "")
    name = f"{part.name}.{field}"
    if isinstance(value, int):
        bits = 63 if field.endswith("seed") else 31
        if not -(2**bits) <= value < 2**bits:
            return f"{name} is {show(value)}: give a whole number of {bits + 1} bits, {2**bits - 1:,} at most"
    if part.name.startswith("optax.") and isinstance(value, int | float) and field in _OF_OPTAX:
        least, most = _OF_OPTAX[field]
        if not (least <= value < most):
            bound = "a number that is finite" if most == math.inf else f"a number below {most:g}"
            return f"{name} is {value}: give {bound}, and {least:g} at least"
    infinite_in_optax = value in (math.inf, -math.inf) and part.name.startswith("optax.")  # inf means no bound
    if isinstance(value, float) and not (value == 0 or infinite_in_optax or _SMALLEST <= abs(value) <= _LARGEST):
        return f"{name} is {value}: give a number of 32 bits, of a size from {_SMALLEST:.1e} to {_LARGEST:.1e}, or 0"
    return ""


def _fits_tuple(value: tuple[Any, ...], arguments: tuple[Any, ...]) -> bool:
    if len(arguments) == 2 and arguments[1] is ...:
        return all(fits(element, arguments[0]) for element in value)
    return len(value) == len(arguments) and all(map(fits, value, arguments))


def _fits_class(value: object, hint: Any) -> bool:
    if hint is None or hint is types.NoneType:
        return value is None
    if not isinstance(hint, type):  # a TypeVar, a forward reference
        return True
    actual = value.part.produces if isinstance(value, Node) else type(value)
    if actual is int and hint in (float, complex):
        return True
    if actual is bool:
        return hint in (bool, object)
    try:
        return issubclass(actual, hint)
    except TypeError:  # a Protocol that is not for run time
        return True


def describe(hint: Any) -> str:
    """An annotation in the words of an error message."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return "anything"
    if hint is None or hint is types.NoneType:
        return "None"
    if origin in (typing.Union, types.UnionType):
        names = list(dict.fromkeys(describe(choice) for choice in arguments))
        if "ndarray" in names:  # of optax: anything that can be an array
            names = ["number", *(name for name in names if name.rpartition(".")[2] not in _OF_ARRAYS)]
        return _one_of(names)
    if origin is Literal:
        return _one_of([repr(choice) for choice in arguments])
    if origin is tuple and len(arguments) == 2 and arguments[1] is ...:
        return f"a list of {describe(arguments[0])}"
    if origin is tuple:
        return f"a list of {len(arguments)} ({', '.join(map(describe, arguments))})"
    if origin is collections.abc.Callable:
        return "a function"
    return getattr(hint, "__name__", str(hint))


def _one_of(choices: list[str]) -> str:
    return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"


def mend(value: object, hint: Any, catalogue: Catalogue) -> str:
    """What the user may have meant by a value that does not fit, as `; did you mean X?`, or nothing."""
    wanted = _wanted(value, hint, catalogue)
    if wanted:
        return f"; did you mean {wanted}?"
    if isinstance(value, str):
        near = suggest(value, [choice for choice in _choices(hint) if isinstance(choice, str)])
        if near:
            return near
    fitting = [name for name, part in catalogue.parts.items() if not _is_plain(hint) and fits(Node(part), hint)]
    return f"; parts that fit: {', '.join(fitting[:6])}" if fitting else ""


def _wanted(value: object, hint: Any, catalogue: Catalogue) -> str:
    if isinstance(value, str):
        if value.lower() in ("true", "false") and fits(True, hint):
            return value.capitalize()
        if value.lower() == "none" and fits(None, hint):
            return "None"
        named = catalogue.get(value.strip("@()"))
        return f"@{named.name}()" if named and fits(Node(named), hint) else ""
    if isinstance(value, float) and value.is_integer() and fits(int(value), hint):
        return str(int(value))
    if not isinstance(value, tuple) and fits((value,), hint):
        return f"[{show(value)}]"
    return ""


def _choices(hint: Any) -> list[Any]:
    """All choices of the literals in an annotation."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return list(arguments)
    return [choice for argument in arguments for choice in _choices(argument)]


def _is_plain(hint: Any) -> bool:
    """Whether a list of parts would not help: the annotation is about numbers and strings, or accepts all."""
    return hint is Any or fits(0, hint) or fits("", hint) or fits(True, hint)


def show(value: object) -> str:
    """A value in an error message: gin's notation, one line, not too long."""
    if isinstance(value, Node):
        return f"@{value.part.name}()"
    text = f"[{', '.join(map(show, value))}]" if isinstance(value, tuple) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
