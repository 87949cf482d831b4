"""How a process starts, and what programs are told."""

from __future__ import annotations

import os
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from vsml.hardware import (
    compiler_options,
    devices_are_cores,
    keep_compiled,
    kind,
    lifetimes_at_once,
    one_device_per_core,
    programs,
    steps_wait,
)


def test_the_number_of_devices_that_the_user_chose_is_kept(monkeypatch: pytest.MonkeyPatch):
    asked: list[tuple[str, object]] = []
    values = {"jax_num_cpu_devices": 4}
    config = SimpleNamespace(values=values, update=lambda name, value: asked.append((name, value)))
    monkeypatch.setattr(programs, "jax", SimpleNamespace(config=config))
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    one_device_per_core()
    assert asked == []
    values["jax_num_cpu_devices"] = -1
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=3")
    one_device_per_core()
    assert asked == []
    monkeypatch.delenv("XLA_FLAGS")
    one_device_per_core()
    assert asked == [("jax_num_cpu_devices", len(os.sched_getaffinity(0)))]


def test_compiled_programs_are_kept_nowhere_where_the_user_says_so(monkeypatch: pytest.MonkeyPatch):
    asked: list[tuple[str, object]] = []
    config = SimpleNamespace(update=lambda name, value: asked.append((name, value)))
    monkeypatch.setattr(programs, "jax", SimpleNamespace(config=config))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    keep_compiled()
    assert "jax_compilation_cache_dir" not in dict(asked)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    keep_compiled()
    assert "jax_compilation_cache_dir" in dict(asked)


def test_options_that_this_compiler_does_not_know_are_left_out(monkeypatch: pytest.MonkeyPatch):
    for differentiates in (True, False):
        options = compiler_options(differentiates)
        assert options["xla_cpu_prefer_vector_width"] == "512"
        jax.jit(jnp.negative).lower(0.0).compile(compiler_options=options)
    monkeypatch.setattr(programs, "_is_known", lambda name, value: False)
    assert compiler_options(True) == {}


def test_a_cpu_takes_one_lifetime_at_a_time_and_waits(monkeypatch: pytest.MonkeyPatch):
    device = jax.devices()[0]
    assert (lifetimes_at_once(7), steps_wait(device), devices_are_cores(device)) == (1, True, True)
    monkeypatch.setattr(kind, "is_cpu", lambda device=None: False)
    assert (lifetimes_at_once(7), steps_wait(device), devices_are_cores(device)) == (7, False, False)
    assert compiler_options(True) == {}
