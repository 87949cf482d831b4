"""Run and sweep directories with made-up numbers, as far as a report reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vsml.evaluation import Evaluation, Measure, Rival

SHARE = Measure(limits=(0.0, 1.0), chance=0.1)


def around(mean: float, interval: float = 0.01) -> np.ndarray:
    """Four values with that mean, whose 95 % interval has that half width: 3.18245 std / 2."""
    return mean + interval * 2 / 3.182446 * np.sqrt(3) / 2 * np.array([-1, -1, 1, 1])


def evaluation(accuracy: float, baselines: bool = True) -> dict[str, Any]:
    def scores(mean: float) -> dict[str, np.ndarray]:
        return {
            "cumulative_accuracy": around(mean),
            "final_accuracy": around(mean + 0.05),
            "loss": around(1 - mean),
        }

    rivals = {f"best_{name}": Rival(f"best {name}", scores(0.7), {"hidden": 160}) for name in ("sgd", "adam")}
    found = Evaluation(
        "digits",
        scores(accuracy),
        headline="cumulative_accuracy",
        rivals=rivals if baselines else {},
        curves={"correct": np.zeros((4, 40))},
        facts={"examples": 40, "chance": 0.1},
        measures={"cumulative_accuracy": SHARE, "final_accuracy": SHARE, "correct": SHARE},
        note="Made up.",
    )
    return found.summary


def write_run(path: Path, accuracy: float | None, size: int = 4, seed: int = 0, steps: int = 30) -> None:
    """A run that ended with that accuracy, or has not ended."""
    (path / "evaluations").mkdir(parents=True)
    learner = {"part": "learners.VSML", "size": size}
    config = {"recipe": "recipes/quickstart.gin", "macros": {}, "train": {"learner": learner, "seed": seed}}
    (path / "config.json").write_text(json.dumps(config))
    done = steps if accuracy is not None else steps // 2
    ends = accuracy or 0.5
    entries = [{"step": k, "loss": 2.3 - ends * k / steps, "accuracy": ends * k / steps} for k in range(1, done + 1)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    interim = [{"step": k, "evaluations": {"digits": evaluation(ends * k / steps)}} for k in range(10, done, 10)]
    (path / "evaluations.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in interim))
    if accuracy is None:
        return
    rng = np.random.default_rng(seed)
    rising = accuracy * (1 - np.exp(-np.arange(40) / 8))
    curves = {name: rng.uniform(size=(4, 40)) < rising for name in ("correct", "best_sgd_correct", "best_adam_correct")}
    arrays: dict[str, Any] = {name: curve.astype(np.float32) for name, curve in curves.items()}
    np.savez(path / "evaluations" / "digits.npz", **arrays)
    summary = {"recipe": "recipes/quickstart.gin", "seed": seed, "meta_steps": steps, "seconds": 10.0 + seed}
    summary |= {"devices": 1, "num_meta_parameters": 10 * size, "num_learned_variables": 1000}
    summary |= {"peak_memory_bytes": {"host": 2**20 * (100 + size), "device": None}}
    (path / "summary.json").write_text(json.dumps(summary | {"evaluations": {"digits": evaluation(accuracy)}}))


def write_sweep(path: Path, accuracies: Mapping[tuple[str, str], Sequence[float | None]], steps: int = 30) -> None:
    """A sweep of two axes and seeds: (size, feedback) -> the accuracy of every seed."""
    points = []
    for (size, feedback), seeds in accuracies.items():
        for seed, accuracy in enumerate(seeds):
            name = f"size={size},feedback={feedback},seed={seed}"
            labels = {"size": size, "feedback": feedback, "seed": str(seed)}
            points.append({"name": name, "labels": labels, "overrides": [], "steps": steps})
            write_run(path / name, accuracy, int(size), seed, steps)
    axes = [
        {"name": name, "key": key, "labels": sorted({point["labels"][name] for point in points})}
        for name, key in (("size", "cells.LSTM.size"), ("feedback", ""), ("seed", "SEED"))
    ]
    sweep = {"file": "sweeps/made_up.gin", "words": ["STEPS=30"], "recipe": "recipes/quickstart.gin", "tags": ["a"]}
    (path / "sweep.json").write_text(json.dumps(sweep | {"axes": axes, "points": points, "refused": []}))
