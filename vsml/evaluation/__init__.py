"""Meta-test: how well a frozen learning algorithm learns, with baselines beside it."""

from vsml.evaluation.agreement import Agreement
from vsml.evaluation.base import Evaluation, Evaluator, Measure, Picture, Rival
from vsml.evaluation.baselines import Baselines
from vsml.evaluation.beside_backprop import BesideBackprop
from vsml.evaluation.clone_fit import CloneFit
from vsml.evaluation.dynamics import Dynamics
from vsml.evaluation.frozen_accuracy import FrozenAccuracy
from vsml.evaluation.online import Online
from vsml.evaluation.online_accuracy import OnlineAccuracy
from vsml.evaluation.recalled import Recalled
from vsml.evaluation.shown_again import ShownAgain

__all__ = [
    "Agreement",
    "Baselines",
    "BesideBackprop",
    "CloneFit",
    "Dynamics",
    "Evaluation",
    "Evaluator",
    "FrozenAccuracy",
    "Measure",
    "Online",
    "OnlineAccuracy",
    "Picture",
    "Recalled",
    "Rival",
    "ShownAgain",
]

PARTS = (Baselines,)
"""Parts that a gin file may name as `evaluators.X` though they are no evaluators themselves."""
