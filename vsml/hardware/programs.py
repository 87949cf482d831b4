"""How programs are compiled and run, and how a process that runs them starts."""

from __future__ import annotations

import functools
import os
from contextlib import suppress
from typing import Any

import jax
import jax.numpy as jnp
import platformdirs

from vsml.hardware import kind

NETWORKS_AT_ONCE = 8
"""Lifetimes of plain networks, each at all learning rates, that an evaluation runs at once: they fit a CPU's caches. No
other number has been tried on accelerators."""


def lifetimes_at_once(count: int) -> int:
    """How many of `count` lifetimes a device runs at once: all, or on a CPU one, whose state then stays in the caches.

    There, products of many small matrices are slow as well.
    """
    return 1 if kind.is_cpu() else count


def devices_are_cores(device: Any) -> bool:
    """Whether devices are virtual, a core of one processor each: one that is left out is no loss to the others."""
    return kind.is_cpu(device)


def steps_wait(device: Any) -> bool:
    """Whether each step has to be waited for: queued collectives of a CPU's virtual devices can deadlock."""
    return kind.is_cpu(device)


def compiler_options(differentiates: bool) -> dict[str, str | bool]:
    """What XLA is told about a program: nothing, or on a CPU what makes lifetimes faster there.

    Vectors as wide as the processor has them (compilers shy away from AVX-512, which early processors slowed down
    for), and, where nothing is differentiated, XLA's own loops rather than those of its library YNNPACK. Options that
    an XLA does not know are left out.
    """
    if not kind.is_cpu():
        return {}
    options = {"xla_cpu_prefer_vector_width": "512"}
    if not differentiates:
        options["xla_cpu_experimental_ynn_fusion_type"] = ""
    return {name: value for name, value in options.items() if _is_known(name, value)}


@functools.cache
def _is_known(option: str, value: str) -> bool:
    try:
        jax.jit(jnp.negative).lower(0.0).compile(compiler_options={option: value})
    except jax.errors.JaxRuntimeError:
        return False
    return True


def one_device_per_core() -> None:
    """Before JAX is used: on a CPU, XLA's virtual devices are what makes one process use several cores.

    Whoever has chosen their number (JAX_NUM_CPU_DEVICES or XLA_FLAGS) keeps it.
    """
    if jax.config.values["jax_num_cpu_devices"] > 0 or "host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(RuntimeError):  # a caller from Python has used JAX already
        jax.config.update("jax_num_cpu_devices", cores)


def keep_compiled() -> None:
    """Compiled programs are kept in the user's cache folder: a second run of an experiment starts at once.

    JAX_COMPILATION_CACHE_DIR names another folder, and none where it is empty.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = platformdirs.user_cache_path("vsml") / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(folder))
