"""The only place that knows devices: how one meta-step runs on all of them.

Outside this file there are two kinds of trees: replicated ones, whole on every device, and member trees, whose leaves
have a leading axis of population members that is cut into one contiguous block per device. Both are ordinary global
arrays there. How they look inside a compiled step (pmap wants one more leading axis) stays in here.

`pmap` and `shard_map` run the same per-device function and give the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vsml.errors import UserError
from vsml.types import Array

AXIS = "devices"

Device = Any
"""A `jax.Device`, which type checkers do not take for a type."""

PerDevice = Callable[[Any, Any, Any], tuple[Any, Any, Any]]
"""(replicated state, member state, data) -> (replicated state, member state, replicated metrics), on one device."""


def device_index() -> Array:
    """Inside a per-device function: the index of the device it runs on."""
    return jax.lax.axis_index(AXIS)


def mean_over_devices(tree: Any) -> Any:
    """Inside a per-device function: the mean of a tree over devices, the same on all of them."""
    return jax.lax.pmean(tree, AXIS)


def choose_devices(population: int, requested: int | None) -> list[Device]:
    """The devices that a population is spread over.

    By default all local ones. A CPU's devices are virtual and as many as its cores, so there the default is the largest
    number of them that divides the population.

    Raises:
      UserError: there are fewer devices than requested, or they do not divide the population.
    """
    devices = jax.devices()
    if requested is None:
        count = len(devices)
        if devices[0].platform == "cpu":
            count = max(n for n in range(1, count + 1) if population % n == 0)
    else:
        count = requested
    if not 1 <= count <= len(devices):
        raise UserError(
            f"--devices {count}: this machine has {len(devices)} {devices[0].platform} device(s); "
            f"ask for 1..{len(devices)}"
        )
    if population % count:
        below, above = population - population % count, population + count - population % count
        fit = f"{above}" if below == 0 else f"{below} or {above}"
        raise UserError(
            f"a population of {population} cannot be spread evenly over {count} devices: set POPULATION={fit}, "
            f"or --devices to a divisor of {population}"
        )
    return list(devices[:count])


class Parallel:
    """Runs a per-device function on several devices by `pmap` or `shard_map`."""

    def __init__(self, kind: Literal["pmap", "shard_map"], devices: Sequence[Device]):
        self.kind = kind
        self.devices = list(devices)
        mesh = Mesh(np.asarray(self.devices), (AXIS,))
        self.replicated = NamedSharding(mesh, PartitionSpec())
        self.by_member = NamedSharding(mesh, PartitionSpec(AXIS))
        self._mesh = mesh
        # Queued collectives of virtual CPU devices can deadlock: there every step is waited for.
        self._wait = self.devices[0].platform == "cpu"

    @property
    def num_devices(self) -> int:
        """Number of devices."""
        return len(self.devices)

    def replicate(self, tree: Any) -> Any:
        """Places a tree whole on every device."""
        return jax.device_put(tree, self.replicated)

    def spread(self, tree: Any) -> Any:
        """Places a member tree, one block of members per device."""
        return jax.device_put(tree, self.by_member)

    def compile(self, function: PerDevice) -> Callable[[Any, Any, Any], tuple[Any, Any, Any]]:
        """Compiles a per-device function; its first two arguments are donated.

        The compiled function takes and returns trees in the inner form of `enter`.
        """
        if self.kind == "pmap":
            step = jax.pmap(function, axis_name=AXIS, donate_argnums=(0, 1), devices=self.devices)
        else:
            whole, member = PartitionSpec(), PartitionSpec(AXIS)
            # check_vma would sum the gradients of replicated parameters over devices by itself; the mean is ours to
            # take.
            step = jax.jit(
                jax.shard_map(
                    function,
                    mesh=self._mesh,
                    in_specs=(whole, member, whole),
                    out_specs=(whole, member, whole),
                    check_vma=False,
                ),
                donate_argnums=(0, 1),
            )
        if not self._wait:
            return step
        return lambda *arguments: jax.block_until_ready(step(*arguments))

    def enter(self, tree: Any) -> Any:
        """A global tree, replicated or of members, in the form that a compiled step takes."""
        if self.kind == "shard_map":
            return tree
        return jax.tree.map(self._stack, tree)

    def leave(self, tree: Any, members: bool = False) -> Any:
        """The inverse of `enter`: a tree of a compiled step as global arrays, without a device axis."""
        if self.kind == "shard_map":
            return tree
        return jax.tree.map(lambda leaf: self._unstack(leaf, members), tree)

    def fetch(self, tree: Any) -> Any:
        """A replicated tree of a compiled step as host arrays."""
        one = jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)
        host = jax.device_get(one)
        return jax.tree.map(lambda leaf: leaf[0], host) if self.kind == "pmap" else host

    def _stack(self, leaf: Array) -> Array:
        """Global array to [devices, ...]: what each device holds becomes its slice, without moving data."""
        blocks = [shard.data[None] for shard in leaf.addressable_shards]
        shape = (self.num_devices, *blocks[0].shape[1:])
        return jax.make_array_from_single_device_arrays(shape, self.by_member, blocks)

    def _unstack(self, leaf: Array, members: bool) -> Array:
        """[devices, ...] to a global array."""
        blocks = [shard.data[0] for shard in leaf.addressable_shards]
        if not members:
            return jax.make_array_from_single_device_arrays(blocks[0].shape, self.replicated, blocks)
        shape = (self.num_devices * blocks[0].shape[0], *blocks[0].shape[1:])
        return jax.make_array_from_single_device_arrays(shape, self.by_member, blocks)
