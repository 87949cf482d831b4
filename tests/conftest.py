"""What every test shares: four virtual devices, strict numerics, and the real data where there is some."""

from __future__ import annotations

import gc
import importlib.util
import mmap
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Little here runs for long: most of the time is compiling, and the first value of each makes that two to three times
# faster than the second, which is XLA's own.
_QUICK_AND_USUAL: dict[str, tuple[Any, Any]] = {
    "xla_cpu_use_fusion_emitters": (False, True),
    "xla_cpu_parallel_codegen_split_count": (1, 32),
}
_NO_OPTIMISATIONS = "JAX_DISABLE_MOST_OPTIMIZATIONS"


def _known_to_xla(names: Iterable[str]) -> list[str]:
    """An unknown name in XLA_FLAGS ends the process."""
    found = importlib.util.find_spec("jaxlib")
    library = Path(found.origin or "").parent / "libjax_common.so" if found else Path()
    if not library.is_file():
        return []
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return [name for name in names if content.find(name.encode() + b"\0") >= 0]


def _flags(options: dict[str, Any]) -> str:
    return " ".join(f"--{name}={str(value).lower()}" for name, value in options.items())


# A collective that hangs aborts the test instead of the whole suite's time limit; a busy machine needs some patience.
# Set before jax is imported and inherited by the processes that tests start.
_PATIENCE = {
    "xla_cpu_collective_call_warn_stuck_timeout_seconds": 10,
    "xla_cpu_collective_call_terminate_timeout_seconds": 30,
}
_KNOWN = _known_to_xla(_QUICK_AND_USUAL)
_QUICK, _USUAL = ({name: _QUICK_AND_USUAL[name][i] for name in _KNOWN} for i in (0, 1))
_USERS_FLAGS = f"{os.environ.get('XLA_FLAGS', '')} {_flags(_PATIENCE)}".strip()
os.environ["XLA_FLAGS"] = f"{_USERS_FLAGS} {_flags(_QUICK)}".strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")
os.environ["JAX_COMPILATION_CACHE_DIR"] = ""  # nothing is kept from other days; see `compiled`
os.environ[_NO_OPTIMISATIONS] = "true"

import hypothesis  # noqa: E402
import jax  # noqa: E402
from jax.experimental.compilation_cache import compilation_cache  # noqa: E402

jax.config.update("jax_num_cpu_devices", 4)
# Strict dtype promotion cannot go with it: optax's Adam raises a Python float to the power of its integer count.
jax.config.update("jax_numpy_rank_promotion", "raise")

# The first example of a property compiles, so time limits per example would fail by chance; the examples stay the same.
hypothesis.settings.register_profile("vsml", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("vsml")

# Tracing makes very many objects, few of them garbage: looking through them seldom is enough.
gc.set_threshold(50_000, 20, 50)


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
    """Lets go of compiled programs before they are too many.

    Every one of them holds dozens of memory maps, of which Linux allows a process 65,530; thousands of programs use
    them up, and the next one to be compiled is a segmentation fault.
    """
    yield
    maps = Path("/proc/self/maps")
    if not maps.exists() or maps.read_bytes().count(b"\n") > 40_000:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def optimised(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Programs compiled as users compile them, in processes that the test starts, and here those lowered by hand.

    The meta-step is one of these. What `jax.jit` compiles by itself keeps this process's XLA_FLAGS, and is optimised.
    """
    monkeypatch.delenv(_NO_OPTIMISATIONS)
    monkeypatch.setenv("XLA_FLAGS", _USERS_FLAGS)
    jax.config.update("jax_disable_most_optimizations", False)
    compile_lowered = jax.stages.Lowered.compile

    def compile_as_users_do(self: jax.stages.Lowered, compiler_options: dict[str, Any] | None = None) -> Any:
        return compile_lowered(self, {**_USUAL, **(compiler_options or {})})

    monkeypatch.setattr(jax.stages.Lowered, "compile", compile_as_users_do)
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
