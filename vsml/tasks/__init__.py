"""Data: sources of labelled examples, transforms of a lifetime, and the distributions that tasks are drawn from."""

from __future__ import annotations

from vsml.tasks.base import Dataset, Examples, Source, Task, TaskDistribution, TaskSpec, Transform
from vsml.tasks.classification import Classification
from vsml.tasks.few_shot import FewShot
from vsml.tasks.mixture import Mixture

__all__ = [
    "Classification",
    "Dataset",
    "Examples",
    "FewShot",
    "Mixture",
    "Source",
    "Task",
    "TaskDistribution",
    "TaskSpec",
    "Transform",
]

PARTS = (Mixture,)
"""Further parts of the axis `tasks`: what only meta-training can use, since it has no one shape."""
