"""Meta-test: how well a frozen learning algorithm learns, with baselines beside it."""

from vsml.evaluation.base import Evaluation, Evaluator, Measure, Rival
from vsml.evaluation.baselines import Baselines
from vsml.evaluation.frozen_accuracy import FrozenAccuracy
from vsml.evaluation.online import Online
from vsml.evaluation.online_accuracy import OnlineAccuracy

__all__ = ["Baselines", "Evaluation", "Evaluator", "FrozenAccuracy", "Measure", "Online", "OnlineAccuracy", "Rival"]

PARTS = (Baselines,)
"""Parts that a gin file may name as `evaluators.X` though they are no evaluators themselves."""
