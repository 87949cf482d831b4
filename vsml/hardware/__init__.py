"""What a kind of processor is good at, and nothing else: every choice that a CPU and an accelerator make differently.

    which kind is it        `kind.is_cpu`, the one place that asks
    how a program runs      blocks of sub-RNNs, tanh, matrix products, lifetimes at once, compiler options, waiting
    how a process starts    one device per core, compiled programs kept

All of it changes speed, memory and the last digits; nothing changes what is computed. It imports no other room, and any
may import it.
"""

from vsml.hardware.blocks import Cut, in_blocks
from vsml.hardware.gates import opened, tanh, tanh_gates
from vsml.hardware.kind import is_cpu
from vsml.hardware.products import Precision, product, product_of_few, products_in, sums_as_product
from vsml.hardware.programs import (
    NETWORKS_AT_ONCE,
    compiler_options,
    devices_are_cores,
    drop_oldest_compiled,
    keep_compiled,
    lifetimes_at_once,
    one_device_per_core,
    steps_wait,
)

__all__ = [
    "NETWORKS_AT_ONCE",
    "Cut",
    "Precision",
    "compiler_options",
    "devices_are_cores",
    "drop_oldest_compiled",
    "in_blocks",
    "is_cpu",
    "keep_compiled",
    "lifetimes_at_once",
    "one_device_per_core",
    "opened",
    "product",
    "product_of_few",
    "products_in",
    "steps_wait",
    "sums_as_product",
    "tanh",
    "tanh_gates",
]
