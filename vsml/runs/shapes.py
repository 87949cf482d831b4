"""What readers rely on in the JSON files of runs and sweeps. All else in them may change from version to version.

A shape is a type, as `vsml.config.fits` takes it; [shape] for a list; or a dict of key -> shape, where a key with `?`
at its end may be missing and ANY stands for every other key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vsml.config import describe, fits
from vsml.errors import UserError

ANY = "*"
NUMBER = float | None  # None stands for a number that is not finite
SPREAD = {"mean": NUMBER, "std": NUMBER, "interval95": NUMBER}
MEASURE = {"title": str, "lower_is_better": bool, "limits": tuple[float, float] | None, "chance": NUMBER}
EVALUATION = {
    "lifetimes": int,
    "headline?": str,
    "note?": str,
    "scores?": {ANY: MEASURE},
    "curves?": {ANY: MEASURE},
    "baselines?": {ANY: {"label?": str}},
}
CONFIG = {"recipe": str, "macros": {}, "train": {}}
SUMMARY = {
    "recipe": str,
    "meta_steps": int,
    "seconds": float,
    "devices": int,
    "num_meta_parameters": int,
    "num_learned_variables": int,
    "peak_memory_bytes?": {ANY: int | None},
    "evaluations": {ANY: EVALUATION},
}
METRICS = {"step": int, ANY: NUMBER}
INTERIM = {"step": int, "evaluations": {ANY: EVALUATION}}
HISTORY = {
    "step": int,
    "changes": [{"key": str, "schedule": bool}],
    "data": {ANY: str},
    "environment": {"vsml": str, "packages": {"jax": str}, "device_kind": str, "devices_used": int},
}
SWEEP = {
    "file": str,
    "words": tuple[str, ...],
    "tags": tuple[str, ...],
    "axes": [{"name": str, "key": str, "labels": tuple[str, ...]}],
    "points": [{"name": str, "labels": {ANY: str}, "steps": int}],
    "refused": [{"name": str, "reason": str}],
}
POINT = {"hyperparameters": {ANY: str | int | float | bool}}
SPEC = {"input_shape": tuple[int, ...], "num_outputs": int, "length": int, "batch": int, "feedback": tuple[str, ...]}
OF_CHECKPOINT = {"specs": [SPEC], "seconds": float, "started_from": object}


def read_json(path: Path, shape: Any, mend: str) -> Any:
    """The content of a JSON file, None where there is none. Raises `UserError` for a damaged one, or another shape."""
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error}): {mend}") from None
    if problem := flaw(content, shape):
        raise UserError(f"{path}: cannot be read ({problem}): {mend}")
    return content


def flaw(content: Any, shape: Any, name: str = "it") -> str:
    """How a content differs from a shape, or nothing."""
    if isinstance(shape, dict):
        return _flaw_of_object(content, shape, name)
    if isinstance(shape, list):
        if not isinstance(content, list):
            return f"{name} is not a list"
        return next((found for i, each in enumerate(content) if (found := flaw(each, shape[0], f"{name}[{i}]"))), "")
    return "" if fits(_tuples(content), shape) else f"{name} is {_short(content)}, not {describe(shape)}"


def _flaw_of_object(content: Any, shape: Mapping[str, Any], name: str) -> str:
    if not isinstance(content, dict):
        return f"{name} is {_short(content)}, not an object"
    prefix = "" if name == "it" else f"{name}."
    for key in shape:
        if key != ANY and not key.endswith("?") and key not in content:
            return f"{name} has no {key}"
    for key, value in content.items():
        inner = shape.get(key, shape.get(f"{key}?", shape.get(ANY, object)))
        if found := flaw(value, inner, f"{prefix}{key}"):
            return found
    return _flaw_of_scores(content, prefix) if shape is EVALUATION else ""


def _flaw_of_scores(evaluation: Mapping[str, Any], prefix: str) -> str:
    """The same for scores: keys of the evaluation, described in `scores`; rivals have the same ones."""
    named = dict.fromkeys((*filter(None, [evaluation.get("headline")]), *evaluation.get("scores", {})))
    if "scores" in evaluation and (undescribed := [score for score in named if score not in evaluation["scores"]]):
        return f"{prefix}scores has no {undescribed[0]}"
    rows = {prefix: evaluation}
    rows |= {f"{prefix}baselines.{key}.": rival for key, rival in evaluation.get("baselines", {}).items()}
    for row, content in rows.items():
        for score in named:
            if content.get(score) is not None and (found := flaw(content[score], SPREAD, f"{row}{score}")):
                return found
    return ""


def _tuples(content: Any) -> Any:
    """Lists as tuples, as `fits` wants them."""
    return tuple(map(_tuples, content)) if isinstance(content, list) else content


def _short(content: Any) -> str:
    text = json.dumps(content)
    return text if len(text) <= 40 else f"{text[:37]}..."
