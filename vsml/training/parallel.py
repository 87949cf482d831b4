"""The only module that handles devices: how one meta-step runs on all of them.

Outside this file there are two kinds of trees: replicated ones, whole on every device, and member trees, whose leaves
have a leading axis of population members that is cut into one contiguous block per device. Both are ordinary global
arrays there. Their form between two steps (pmap needs one more leading axis) is private to this file: `Running`
holds it, so that nothing is converted at every step.

`pmap` and `shard_map` run the same per-device function and give the same numbers.

The devices may belong to several processes. Inputs are then whole and equal in every process; each places the part of
its own devices. Outputs are global arrays: a process sees its own blocks of a member tree, and all of a replicated one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vsml.errors import UserError
from vsml.hardware import compiler_options, devices_are_cores, steps_wait
from vsml.types import Array

AXIS = "devices"

Device = Any
"""A `jax.Device`, which type checkers do not accept as a type."""

PerDevice = Callable[[Any, Any, Any], tuple[Any, Any, Any]]
"""(replicated state, member state, data) -> (replicated state, member state, replicated metrics), on one device."""


def device_index() -> Array:
    """Inside a per-device function: the index of the device it runs on."""
    return jax.lax.axis_index(AXIS)


def mean_over_devices(tree: Any) -> Any:
    """Inside a per-device function: the mean of a tree over devices, the same on all of them."""
    return jax.lax.pmean(tree, AXIS)


def gather_over_devices(values: Array) -> Array:
    """Inside a per-device function: the members' values [members, ...] of all devices, in order, the same on all."""
    return jax.lax.all_gather(values, AXIS, tiled=True)


def choose_devices(population: int, requested: int | None, shares: Sequence[int] = ()) -> list[Device]:
    """The devices that a population is spread over, or each share of a mixture; `shares` are their numbers of members.

    By default all devices of all processes; where devices are CPU cores, the largest number of them that divides the
    population. Every process provides the same number.

    Raises:
      UserError: there are fewer devices than requested, or they do not divide the population or over the processes.
    """
    devices, processes = jax.devices(), jax.process_count()
    smallest = math.gcd(*shares) if shares else population
    if requested is None:
        fitting = [n for n in range(processes, len(devices) + 1, processes) if smallest % n == 0]
        count = fitting[-1] if fitting and devices_are_cores(devices[0]) else len(devices)
    else:
        count = requested
    if not 1 <= count <= len(devices):
        machine = "this machine has" if processes == 1 else f"the {processes} processes have"
        raise UserError(
            f"--devices {count}: {machine} {len(devices)} {devices[0].platform} device(s); ask for 1..{len(devices)}"
        )
    if count % processes:
        raise UserError(f"--devices {count}: {processes} processes give the same number each: ask for a multiple")
    if smallest % count and len(shares) > 1:
        raise UserError(
            f"a mixture's shares of {', '.join(map(str, shares))} members cannot each be spread evenly over {count} "
            "devices: change POPULATION or tasks.Mixture.shares, or set --devices to a divisor of all of them"
        )
    if population % count:
        below, above = population - population % count, population + count - population % count
        fit = f"{above}" if below == 0 else f"{below} or {above}"
        raise UserError(
            f"a population of {population} cannot be spread evenly over {count} devices: set POPULATION={fit}, "
            f"or --devices to a divisor of {population}"
        )
    of_process = [[device for device in devices if device.process_index == index] for index in range(processes)]
    return [device for own in of_process for device in own[: count // processes]]


def fetch_replicated(tree: Any) -> Any:
    """A replicated tree of global arrays as host arrays."""
    return jax.device_get(jax.tree.map(lambda leaf: leaf.addressable_data(0), tree))


class Parallel:
    """Runs a per-device function on several devices by `pmap` or `shard_map`."""

    def __init__(self, kind: Literal["pmap", "shard_map"], devices: Sequence[Device]):
        self.kind = kind
        self.devices = list(devices)
        self._local = [device for device in self.devices if device.process_index == jax.process_index()]
        mesh = Mesh(np.asarray(self.devices), (AXIS,))
        self.replicated = NamedSharding(mesh, PartitionSpec())
        self.by_member = NamedSharding(mesh, PartitionSpec(AXIS))
        self._mesh = mesh
        self._maximum = jax.jit(jnp.max, out_shardings=self.replicated)
        self._wait = steps_wait(self.devices[0])

    @property
    def num_devices(self) -> int:
        """Number of devices."""
        return len(self.devices)

    def replicate(self, tree: Any) -> Any:
        """Places a tree, whole in every process, whole on every device."""
        return jax.tree.map(lambda leaf: _place(leaf, self.replicated), tree)

    def spread(self, tree: Any) -> Any:
        """Places a member tree, whole in every process, one block of members per device."""
        return jax.tree.map(lambda leaf: _place(leaf, self.by_member), tree)

    def compile(self, function: PerDevice, differentiates: bool = True) -> Step:
        """A step that runs a per-device function on all devices.

        Args:
          function: what to run.
          differentiates: whether it differentiates lifetimes; this affects only the speed.
        """
        return Step(self, function, differentiates)

    def lower(self, function: PerDevice, state: Any, members: Any, data: Any) -> jax.stages.Lowered:
        """A per-device function, lowered for global arrays; with pmap its program takes them with one more axis."""
        return self._lower(function, *map(self._to_inner, (state, members, data)))

    def over_devices(self, function: PerDevice) -> PerDevice:
        """A per-device function as one of global arrays, to be traced as a part of other functions."""
        whole, member = PartitionSpec(), PartitionSpec(AXIS)
        # check_vma would sum the gradients of replicated parameters over devices by itself; here the mean is explicit.
        return jax.shard_map(
            function,
            mesh=self._mesh,
            in_specs=(whole, member, whole),
            out_specs=(whole, member, whole),
            check_vma=False,
        )

    def largest(self, number: int) -> Array:
        """Starts to compute the largest of a number over all processes; all of them call this at the same point.

        Returns:
          The largest, replicated: `fetch_replicated` waits for it.
        """
        blocks = [jax.device_put(np.full(1, number, np.int32), device) for device in self._local]
        everyones = jax.make_array_from_single_device_arrays((self.num_devices,), self.by_member, blocks)
        found = self._maximum(everyones)
        return jax.block_until_ready(found) if self._wait else found

    def _lower(self, function: PerDevice, state: Any, members: Any, data: Any) -> jax.stages.Lowered:
        """As `lower`, for trees in the inner form."""
        if self.kind == "pmap":
            step: Any = jax.pmap(function, axis_name=AXIS, donate_argnums=(0, 1), devices=self.devices)
        else:
            step = jax.jit(self.over_devices(function), donate_argnums=(0, 1))
        return step.lower(state, members, data)

    def _to_inner(self, tree: Any) -> Any:
        """A global tree, replicated or of members, in the form that a compiled step takes."""
        if self.kind == "shard_map":
            return tree
        return self._by_blocks(_stack, tree, lambda shape: ((self.num_devices, *shape[1:]), self.by_member))

    def _to_global(self, tree: Any, members: bool = False) -> Any:
        """The inverse of `_to_inner`: a tree of a compiled step as global arrays."""
        if self.kind == "shard_map":
            return tree

        def whole(shape: tuple[int, ...]) -> tuple[tuple[int, ...], NamedSharding]:
            return ((self.num_devices * shape[0], *shape[1:]), self.by_member) if members else (shape, self.replicated)

        return self._by_blocks(_unstack, tree, whole)

    def _by_blocks(
        self, change: Callable[[list[Array]], list[Array]], tree: Any, whole: Callable[[Any], tuple[Any, Any]]
    ) -> Any:
        """Changes each device's blocks of a tree on that device, in one program for all leaves.

        Args:
          change: a compiled function from the blocks of all leaves to the new blocks.
          tree: global arrays.
          whole: shape of a new block -> shape and sharding of the array that all devices hold together.
        """
        leaves, structure = jax.tree.flatten(tree)
        by_device = zip(*(leaf.addressable_shards for leaf in leaves), strict=True)
        changed = [change([shard.data for shard in shards]) for shards in by_device]
        new = [
            jax.make_array_from_single_device_arrays(*whole(blocks[0].shape), list(blocks))
            for blocks in zip(*changed, strict=True)
        ]
        return jax.tree.unflatten(structure, new)


@jax.jit
def _stack(blocks: list[Array]) -> list[Array]:
    """Blocks as slices [1, ...] of arrays that begin with an axis of devices."""
    return [block[None] for block in blocks]


@jax.jit
def _unstack(blocks: list[Array]) -> list[Array]:
    """The inverse of `_stack`."""
    return [block[0] for block in blocks]


@jax.jit
def _copy(tree: Any) -> Any:
    return jax.tree.map(jnp.copy, tree)


def _place(leaf: Any, sharding: NamedSharding) -> Array:
    """A leaf that every process holds whole, as a global array of which each places its own devices' part."""
    host = jax.device_get(leaf)
    return jax.make_array_from_callback(np.shape(host), sharding, lambda index: host[index])


class Step:
    """A per-device function, compiled for the shapes that it first runs on. From `Parallel.compile`."""

    def __init__(self, parallel: Parallel, function: PerDevice, differentiates: bool):
        self.parallel = parallel
        self.program: jax.stages.Compiled | None = None
        self._function, self._differentiates = function, differentiates

    def start(self, state: Any, members: Any, data: Any) -> Running:
        """A `Running` that takes steps from here, given global arrays.

        Args:
          state: replicated; donated, so do not use it again.
          members: a member tree; donated likewise.
          data: replicated; only read.
        """
        return Running(self, state, members, data)

    def run(self, *arguments: Any) -> Any:
        """One step, with arguments in the inner form that only `Running` uses."""
        if self.program is None:
            lowered = self.parallel._lower(self._function, *arguments)
            self.program = lowered.compile(compiler_options=compiler_options(self._differentiates))
        outcome = self.program(*arguments)
        return jax.block_until_ready(outcome) if self.parallel._wait else outcome


class Running:
    """What a compiled step works on, from one step to the next.

    Its properties are global arrays as they were after the last step; the next step reuses the buffers of `state` and
    `members`.
    """

    def __init__(self, step: Step, state: Any, members: Any, data: Any):
        """Use `Step.start`."""
        self._step, self._parallel = step, step.parallel
        self._state, self._members, self._data = map(self._parallel._to_inner, (state, members, data))
        self._metrics: Any = None

    def step(self) -> None:
        """Takes one step; does not wait for it where devices allow that."""
        self._state, self._members, self._metrics = self._step.run(self._state, self._members, self._data)

    def wait(self) -> None:
        """Waits for the last step."""
        jax.block_until_ready(self._metrics)

    @property
    def state(self) -> Any:
        """The replicated state."""
        return self._parallel._to_global(self._state)

    @property
    def members(self) -> Any:
        """The members' state."""
        return self._parallel._to_global(self._members, members=True)

    def snapshot(self) -> tuple[Any, Any]:
        """Copies of state and members, which the next step leaves alone."""
        whole = self.state, self.members
        return _copy(whole) if self._parallel.kind == "shard_map" else whole  # pmap's inner form was just copied

    def metrics(self) -> Any:
        """The metrics of the last step as host arrays; waits for it."""
        host = fetch_replicated(self._metrics)
        return jax.tree.map(lambda leaf: leaf[0], host) if self._parallel.kind == "pmap" else host
