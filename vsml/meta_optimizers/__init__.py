"""How the meta-gradient is estimated: one file per estimator. The update itself is optax's."""

from vsml.meta_optimizers.base import EstimatorState, Lifetimes, MetaOptimizer, PartialLifetime, Population
from vsml.meta_optimizers.bptt import BPTT
from vsml.meta_optimizers.es import ES
from vsml.meta_optimizers.evosax import Evosax
from vsml.meta_optimizers.pes import PES
from vsml.meta_optimizers.truncated_bptt import TruncatedBPTT
from vsml.meta_optimizers.truncated_es import TruncatedES
from vsml.meta_optimizers.truncation import Truncated

__all__ = [
    "BPTT",
    "ES",
    "PES",
    "EstimatorState",
    "Evosax",
    "Lifetimes",
    "MetaOptimizer",
    "PartialLifetime",
    "Population",
    "Truncated",
    "TruncatedBPTT",
    "TruncatedES",
]
