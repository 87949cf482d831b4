"""How a process starts, and what programs are told."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from vsml.hardware import (
    compiler_options,
    devices_are_cores,
    drop_oldest_compiled,
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


def test_compiled_programs_are_kept_nowhere_where_the_user_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(programs.platformdirs, "user_cache_path", lambda name: tmp_path)
    asked: list[tuple[str, object]] = []
    config = SimpleNamespace(update=lambda name, value: asked.append((name, value)))
    monkeypatch.setattr(programs, "jax", SimpleNamespace(config=config))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    keep_compiled()
    assert "jax_compilation_cache_dir" not in dict(asked)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    keep_compiled()
    assert "jax_compilation_cache_dir" in dict(asked)


def test_a_damaged_compiled_program_is_replaced_with_a_line(tmp_path: Path, monkeypatch, capfd):
    settings = {
        "jax_compilation_cache_dir": str(tmp_path),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_enable_xla_caches": "none",
    }
    before = {name: jax.config.values[name] for name in settings}
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()

    def run() -> str:
        jax.jit(lambda x: x * 7).lower(jnp.zeros(3)).compile()  # each a program of its own for JAX, one for the folder
        return capfd.readouterr().err

    try:
        with warnings.catch_warnings():
            keep_compiled()
            keep_compiled()
            assert run() == ""
            (entry,) = tmp_path.glob("jit__lambda*-cache")
            whole = entry.read_bytes()
            entry.write_bytes(whole[:50])
            assert run() == f"{tmp_path}: the compiled program jit__lambda was damaged; it is compiled again\n"
            assert len(entry.read_bytes()) > 50
            assert run() == ""
            with pytest.warns(UserWarning, match="another"):
                warnings.warn("another", stacklevel=1)
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


def test_the_programs_used_least_recently_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(programs, "KEPT_BYTES", 250)
    for age, name in enumerate(("new", "used", "old", "older")):
        path = tmp_path / f"{name}-cache"
        path.write_bytes(bytes(100))
        os.utime(path, (1e9 - age, 1e9 - age))
    os.utime(tmp_path / "older-cache", (2e9, 1e9 - 9))  # read since
    (tmp_path / "something else").write_bytes(bytes(1000))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_MAX_SIZE", "1000")
    drop_oldest_compiled(tmp_path)
    assert len(list(tmp_path.iterdir())) == 5, "JAX itself does it"
    monkeypatch.delenv("JAX_COMPILATION_CACHE_MAX_SIZE")
    drop_oldest_compiled(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"older-cache", "new-cache", "something else"}
    drop_oldest_compiled(tmp_path / "none")


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
