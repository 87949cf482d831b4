"""Which sub-RNNs share V_M: one file per choice."""

from vsml.sharing.base import Sharing
from vsml.sharing.layerwise import Layerwise
from vsml.sharing.shared import Shared

__all__ = ["Layerwise", "Shared", "Sharing"]
