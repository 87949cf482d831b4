"""Data: sources of labelled examples, transforms of a lifetime, and the distributions that tasks are drawn from."""

from __future__ import annotations

from vsml.tasks.base import Dataset, Examples, Source, Task, TaskDistribution, TaskSpec, Transform
from vsml.tasks.classification import Classification

__all__ = ["Classification", "Dataset", "Examples", "Source", "Task", "TaskDistribution", "TaskSpec", "Transform"]
