"""What meta-training minimises: one file per objective."""

from vsml.objectives.base import LinearObjective, Objective, PredictionObjective
from vsml.objectives.cloning import Cloning
from vsml.objectives.discounted import Discounted
from vsml.objectives.improvement import Improvement
from vsml.objectives.last import Last
from vsml.objectives.online_mean import OnlineMean
from vsml.objectives.remember import Remember

__all__ = [
    "Cloning",
    "Discounted",
    "Improvement",
    "Last",
    "LinearObjective",
    "Objective",
    "OnlineMean",
    "PredictionObjective",
    "Remember",
]
