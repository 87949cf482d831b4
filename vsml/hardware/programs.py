"""How programs are compiled and run, and how a process that runs them starts."""

from __future__ import annotations

import functools
import glob
import os
import re
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import platformdirs

from vsml.hardware import kind

NETWORKS_AT_ONCE = 8
"""Lifetimes of plain networks, each at all learning rates, that an evaluation runs at once: they fit a CPU's caches. No
other number has been tried on accelerators."""
KEPT_BYTES = 2 * 2**30
"""Of compiled programs in a folder of ours."""


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

    A number that JAX_NUM_CPU_DEVICES or XLA_FLAGS sets is kept.
    """
    if jax.config.values["jax_num_cpu_devices"] > 0 or "host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(RuntimeError):  # a caller from Python has used JAX already
        jax.config.update("jax_num_cpu_devices", cores)


def keep_compiled() -> None:
    """Compiled programs are kept in the user's cache folder: a second run of an experiment starts at once.

    JAX_COMPILATION_CACHE_DIR names another folder, and none where it is empty. One that is damaged is replaced.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = platformdirs.user_cache_path("vsml") / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(folder))
        drop_oldest_compiled(folder)
    if warnings.showwarning is not _Damaged.replace:
        _Damaged.show, warnings.showwarning = warnings.showwarning, _Damaged.replace
        warnings.filterwarnings("always", _Damaged.WARNING, UserWarning)


def drop_oldest_compiled(folder: Path) -> None:
    """Removes the compiled programs that were used least recently, as far as they take more than `KEPT_BYTES`.

    JAX can do so itself, and does where JAX_COMPILATION_CACHE_MAX_SIZE is set; it then takes a lock for every program,
    and keeps nothing more once a program has come from a process without that setting.
    """
    if "JAX_COMPILATION_CACHE_MAX_SIZE" in os.environ:
        return
    found = []
    for path in folder.glob("*-cache"):
        with suppress(OSError):  # another process has removed it
            status = path.stat()
            found.append((max(status.st_atime, status.st_mtime), status.st_size, path))
    kept = 0
    for _, size, path in sorted(found, reverse=True):
        kept += size
        if kept > KEPT_BYTES:
            with suppress(OSError):
                path.unlink()


class _Damaged:
    """Removes compiled programs that JAX cannot read: it warns, compiles them, and leaves the damaged ones in place."""

    WARNING = "Error reading persistent compilation cache entry for '(.+?)'"
    show: Callable[..., None] = staticmethod(warnings.showwarning)

    @staticmethod
    def replace(message: Warning | str, *where: Any, **more: Any) -> None:
        """In place of `warnings.showwarning`. The warning names a program, of which there may be several variants."""
        folder, found = jax.config.values["jax_compilation_cache_dir"], re.match(_Damaged.WARNING, str(message))
        if not (folder and found):
            _Damaged.show(message, *where, **more)
            return
        for path in Path(folder).glob(f"{glob.escape(found[1])}-*-cache"):
            with suppress(OSError):
                path.unlink()
        print(f"{folder}: the compiled program {found[1]} was damaged; it is compiled again", file=sys.stderr)
