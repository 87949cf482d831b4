"""What an evaluation's data is: which examples, how many different ones, and what meta-training had to do with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vsml.evaluation.base import Evaluator
from vsml.tasks.base import Share, Source, TaskDistribution

HELD_OUT, TRANSFER, META_TRAINING = "held out", "transfer", "examples of meta-training"


def facts_of_data(tasks: TaskDistribution, trained: Sequence[TaskDistribution]) -> dict[str, Any]:
    """Facts for `summary.json`; what is unknown is left out.

    Args:
      tasks: of the evaluation.
      trained: those of meta-training.

    Returns:
      `data`, as in `digits, split test`; `relation`: `held out` (another part of the data of meta-training), `transfer`
      (other data) or `examples of meta-training` (it may have met these); and `different_examples`, how many a lifetime
      may meet.
    """
    facts: dict[str, Any] = {}
    if (different := tasks.different_examples) is not None:
        facts["different_examples"] = different
    source = getattr(tasks, "source", None)
    if isinstance(source, Source):
        split = getattr(source, "split", None)
        facts["data"] = source.data + (f", split {split}" if split else "")
        facts["relation"] = _relation(source, trained)
    return facts


def notes_on_repeats(shares: Sequence[Share], evaluators: Sequence[Evaluator]) -> list[str]:
    """One line for each share of meta-training, and each evaluator, whose lifetimes meet examples more than once."""
    named = [(f"meta-training on {share.tasks.data}", share.tasks) for share in shares]
    named += [(evaluator.name, getattr(evaluator, "tasks", None)) for evaluator in evaluators]
    return [
        f"{name}: lifetimes of {examples} examples meet {different} different ones, each {examples / different:.1f} "
        "times"
        for name, tasks in named
        if isinstance(tasks, TaskDistribution)
        and (different := tasks.different_examples)
        and (examples := tasks.spec.length * tasks.spec.batch) > different
    ]


def _relation(source: Source, trained: Sequence[TaskDistribution]) -> str:
    others = [other for tasks in trained if isinstance(other := getattr(tasks, "source", None), Source)]
    overlaps = {source.overlap(other) for other in others}
    if "examples" in overlaps:
        return META_TRAINING
    return HELD_OUT if "other split" in overlaps else TRANSFER
