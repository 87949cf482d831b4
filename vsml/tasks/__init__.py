"""Tasks and the distributions they are drawn from; sources of labelled examples, and transforms of a lifetime."""

from __future__ import annotations

from vsml.tasks.base import (
    Answer,
    Dataset,
    Examples,
    Feedback,
    Scores,
    Source,
    Task,
    TaskDistribution,
    TaskSpec,
    Transform,
    World,
)
from vsml.tasks.classification import Classification
from vsml.tasks.few_shot import FewShot
from vsml.tasks.gaussian_mixtures import GaussianMixtures
from vsml.tasks.held_out import HeldOut
from vsml.tasks.mixture import Mixture
from vsml.tasks.remember import Remember
from vsml.tasks.supervised import ClassificationTask, RegressionTask

__all__ = [
    "Answer",
    "Classification",
    "ClassificationTask",
    "Dataset",
    "Examples",
    "Feedback",
    "FewShot",
    "GaussianMixtures",
    "HeldOut",
    "Mixture",
    "RegressionTask",
    "Remember",
    "Scores",
    "Source",
    "Task",
    "TaskDistribution",
    "TaskSpec",
    "Transform",
    "World",
]

PARTS = (Mixture,)
"""Further parts of the axis `tasks`: what only meta-training can use, since it has no one shape."""
