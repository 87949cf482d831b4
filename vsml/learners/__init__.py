"""Learning algorithms, learned and not: one file per learner."""

from vsml.learners.base import Learner
from vsml.learners.gradient_descent import GradientDescent
from vsml.learners.meta_rnn import MetaRNN
from vsml.learners.vsml import VSML

__all__ = ["VSML", "GradientDescent", "Learner", "MetaRNN"]
