"""How the meta-gradient is estimated: one file per estimator. The update itself is optax's."""

from vsml.meta_optimizers.base import MetaOptimizer
from vsml.meta_optimizers.bptt import BPTT
from vsml.meta_optimizers.es import ES

__all__ = ["BPTT", "ES", "MetaOptimizer"]
