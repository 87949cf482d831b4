"""Names for the values that travel between rooms."""

from __future__ import annotations

from typing import Any

import jax

Array = jax.Array
Key = jax.Array
"""A typed PRNG key (`jax.random.key`), never the old uint32 pair."""
Params = Any
"""V_M, the meta-parameters: a pytree of arrays."""
State = Any
"""What a learner carries through a lifetime, V_L and messages in flight: a pytree of arrays."""
Metrics = dict[str, Array]

MESSAGES = "messages"
"""Name, for rematerialisation, of what sub-RNNs sent, reduced at the neurons: small, and expensive to recompute."""
