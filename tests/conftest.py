"""What every test shares: four virtual devices, strict numerics, and the real data where there is some."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# A collective that hangs aborts the test instead of the whole suite's time limit; a busy machine needs some patience.
# Set before jax is imported and inherited by the processes that tests start.
_XLA_FLAGS = (
    "--xla_cpu_collective_call_warn_stuck_timeout_seconds=10",
    "--xla_cpu_collective_call_terminate_timeout_seconds=30",
)
os.environ["XLA_FLAGS"] = " ".join((os.environ.get("XLA_FLAGS", ""), *_XLA_FLAGS)).strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")
os.environ["JAX_COMPILATION_CACHE_DIR"] = ""  # nothing is kept from other days; see `compiled`
# Little here runs for long, so compiling without most optimisations halves the time; `optimised` takes that back.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "true"

import hypothesis  # noqa: E402
import jax  # noqa: E402
from jax.experimental.compilation_cache import compilation_cache  # noqa: E402

jax.config.update("jax_num_cpu_devices", 4)
# Strict dtype promotion cannot go with it: optax's Adam raises a Python float to the power of its integer count.
jax.config.update("jax_numpy_rank_promotion", "raise")

# The first example of a property compiles, so time limits per example would fail by chance; the examples stay the same.
hypothesis.settings.register_profile("vsml", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("vsml")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets that VSML_DATA_DIR names; skips the test where the variable is not set."""
    name = os.environ.get("VSML_DATA_DIR")
    if not name:
        pytest.skip("VSML_DATA_DIR is not set: no real data sets to read")
    path = Path(name)
    if not path.is_dir():
        pytest.fail(f"VSML_DATA_DIR={name} is not a directory")
    return path


@pytest.fixture(scope="module", autouse=True)
def _forgotten() -> Iterator[None]:
    """Lets go of a module's compiled programs.

    Every one of them holds dozens of memory maps, of which Linux allows a process 65,530; thousands of programs use
    them up, and the next one to be compiled is a segmentation fault.
    """
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture
def optimised(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Programs compiled as users compile them, here and in processes that the test starts."""
    monkeypatch.delenv("JAX_DISABLE_MOST_OPTIMIZATIONS")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="session")
def folder_of_compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def compiled(folder_of_compiled: Path) -> Iterator[None]:
    """Programs are kept on disk: runs of one experiment, here and in processes that tests start, compile it once."""
    settings = {
        "jax_compilation_cache_dir": str(folder_of_compiled),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_enable_xla_caches": "none",
    }
    before = {name: jax.config.values[name] for name in settings}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name.upper(), str(value))
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
