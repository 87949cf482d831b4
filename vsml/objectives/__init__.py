"""What meta-training minimises: one file per objective."""

from vsml.objectives.base import Objective
from vsml.objectives.last import Last
from vsml.objectives.online_mean import OnlineMean

__all__ = ["Last", "Objective", "OnlineMean"]
