"""Which sub-RNNs share V_M: one file per choice."""

from vsml.sharing.base import Sharing
from vsml.sharing.grouped import Grouped
from vsml.sharing.layerwise import Layerwise
from vsml.sharing.shared import Shared
from vsml.sharing.typed import Typed
from vsml.sharing.unshared import Unshared

__all__ = ["Grouped", "Layerwise", "Shared", "Sharing", "Typed", "Unshared"]
