"""A few choices that together hold every pair of values of every two options."""

from __future__ import annotations

import itertools
import random
from typing import Any


def pairwise(options: dict[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Chosen greedily, the same at every call."""
    draw = random.Random(0)
    missing = {
        ((a, i), (b, j))
        for a, b in itertools.combinations(options, 2)
        for i, j in itertools.product(range(len(options[a])), range(len(options[b])))
    }
    chosen = []
    while missing:
        candidates = [{name: draw.randrange(len(values)) for name, values in options.items()} for _ in range(300)]
        covered = [set(itertools.combinations(candidate.items(), 2)) & missing for candidate in candidates]
        best = max(range(len(candidates)), key=lambda n: len(covered[n]))
        missing -= covered[best]
        chosen.append({name: options[name][index] for name, index in candidates[best].items()})
    return chosen
