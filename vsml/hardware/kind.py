"""Which kind of processor programs run on. Everything else in this room asks here, so tests have one switch."""

from __future__ import annotations

from typing import Any

import jax


def is_cpu(device: Any = None) -> bool:
    """Whether a `jax.Device` is a CPU; None: whether programs run on one by default."""
    return (jax.default_backend() if device is None else device.platform) == "cpu"
