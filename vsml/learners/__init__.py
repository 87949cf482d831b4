"""Learning algorithms, learned and not: one file per learner."""

from vsml.learners.attention_memory import AttentionMemory
from vsml.learners.base import Learner
from vsml.learners.bodies_synapses import BodiesSynapses
from vsml.learners.conv_front_end import ConvFrontEnd
from vsml.learners.delta_rule import DeltaRule
from vsml.learners.fast_weight_memory import FastWeightMemory
from vsml.learners.gradient_descent import GradientDescent
from vsml.learners.hebbian import HebbianFastWeights
from vsml.learners.meta_rnn import MetaRNN
from vsml.learners.nearest_class_mean import NearestClassMean
from vsml.learners.nearest_neighbour import NearestNeighbour
from vsml.learners.random_features import RandomFeatures
from vsml.learners.recursive_least_squares import RecursiveLeastSquares
from vsml.learners.remembered_examples import RememberedExamples
from vsml.learners.standardised import Standardised
from vsml.learners.unit_length import UnitLength
from vsml.learners.vsml import VSML

PARTS = (ConvFrontEnd,)

__all__ = [
    "VSML",
    "AttentionMemory",
    "BodiesSynapses",
    "ConvFrontEnd",
    "DeltaRule",
    "FastWeightMemory",
    "GradientDescent",
    "HebbianFastWeights",
    "Learner",
    "MetaRNN",
    "NearestClassMean",
    "NearestNeighbour",
    "RandomFeatures",
    "RecursiveLeastSquares",
    "RememberedExamples",
    "Standardised",
    "UnitLength",
]
