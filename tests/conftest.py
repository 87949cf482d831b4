"""What every test shares: four virtual devices, strict numerics, and the real data where there is some."""

from __future__ import annotations

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

import hypothesis  # noqa: E402
import jax  # noqa: E402

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


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of compiled programs: runs of one experiment, here and in processes that tests start, compile it once.

    Compiled without most optimisations, which halves the time: nothing here runs for long.
    """
    path = tmp_path_factory.mktemp("compiled")
    settings = {
        "jax_compilation_cache_dir": str(path),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_disable_most_optimizations": True,
        "jax_persistent_cache_enable_xla_caches": "none",
    }
    before = {name: jax.config.values[name] for name in settings}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name.upper(), str(value))
            jax.config.update(name, value)
        yield path
    for name, value in before.items():
        jax.config.update(name, value)
