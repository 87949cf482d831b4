"""Checkpoints: the whole state, the newest and the best, whole or not at all."""

from __future__ import annotations

import errno
import logging
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vsml.errors import UserError
from vsml.runs.checkpoints import Checkpoints, _Quiet
from vsml.runs.saved import best_of, find_step
from vsml.training.parallel import Parallel

SAVED_AS = r"params\.w is saved as float32\[2, 3\], the learner wants"


class State(NamedTuple):
    """Fields in another order than that of the alphabet, which is Orbax's."""

    step: Any
    params: Any
    accumulators: Any
    key: Any


def state(step: int = 0) -> State:
    return State(
        step=jnp.int32(step),
        params={"w": jnp.arange(6.0).reshape(2, 3) + step, "b": jnp.zeros(3)},
        accumulators=(),
        key=jax.random.split(jax.random.key(step), 4),
    )


def assert_same(first: Any, second: Any) -> None:
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        assert one.dtype == other.dtype
        if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        np.testing.assert_array_equal(one, other)


@pytest.fixture
def opened() -> Iterator[Callable[..., Checkpoints]]:
    """Opens directories of checkpoints, and closes them in the end."""
    every: list[Checkpoints] = []

    def open_(directory: Path, **options: Any) -> Checkpoints:
        every.append(Checkpoints(directory, **options))
        return every[-1]

    yield open_
    for checkpoints in every:
        checkpoints.close()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of steps 1, 2 and 3 of which the first is the best."""
    directory = tmp_path_factory.mktemp("saved")
    checkpoints = Checkpoints(directory)
    for step, loss in ((1, 0.5), (2, 2.0), (3, 1.0)):
        save(checkpoints, step, state(step), {"seconds": step + 0.25}, loss)
    checkpoints.close()
    return directory


def save(checkpoints: Checkpoints, step: int, whole: State, meta: dict[str, Any], loss: float) -> None:
    checkpoints.save(step, whole.params, whole._replace(params=()), meta, loss)


def restore(checkpoints: Checkpoints, step: int, like: State) -> tuple[State, dict[str, Any]]:
    params, rest, meta = checkpoints.restore(step, like.params, like._replace(params=()))
    return rest._replace(params=params), meta


def save_and_wait(checkpoints: Checkpoints, step: int) -> None:
    save(checkpoints, step, state(step), {}, 1.0)
    checkpoints.wait()


def steps(directory: Path) -> list[int]:
    return sorted(int(path.name) for path in directory.iterdir())


def test_what_was_saved_comes_back(saved, opened):
    checkpoints = opened(saved, read_only=True)
    restored, meta = restore(checkpoints, 2, state())
    assert_same(restored, state(2))
    assert meta == {"seconds": 2.25, "loss": 2.0}


def test_newest_and_best_are_found_by_name_and_any_by_number(saved, opened):
    checkpoints = opened(saved, read_only=True)
    assert (checkpoints.newest(), checkpoints.best()) == (3, 1)
    assert [find_step(saved, which) for which in ("newest", "best", 2)] == [3, 1, 2]
    with pytest.raises(UserError, match=r"no checkpoint '7'; kept are 1, 2, 3"):
        find_step(saved, 7)


def test_there_may_be_none_yet(tmp_path, opened):
    checkpoints = opened(tmp_path)
    assert (checkpoints.newest(), checkpoints.best()) == (None, None)
    for which in ("newest", "best", 0):
        with pytest.raises(UserError, match="there is none yet: train first"):
            find_step(tmp_path, which)


def test_the_newest_two_and_the_best_are_kept_over_all_processes(tmp_path, opened):
    def write(*losses: float) -> list[int]:
        first = max(steps(tmp_path), default=0) + 1
        checkpoints = opened(tmp_path)
        for step, loss in enumerate(losses, first):
            checkpoints.save(step, {"a": jnp.zeros(2)}, {"b": jnp.zeros(3)}, {}, loss)
        checkpoints.wait()
        return steps(tmp_path)

    assert write(9.0, 1.0, 5.0, 6.0) == [2, 3, 4]
    assert write(7.0) == [2, 4, 5]
    assert write(7.0, 7.0) == [2, 6, 7]
    assert write(0.5) == [7, 8]
    assert write(float("nan"), float("inf"), 7.0) == [8, 10, 11]
    assert opened(tmp_path, read_only=True).best() == 8


def test_no_number_is_never_the_best():
    nan = float("nan")
    assert best_of([1, 2, 3], {1: nan, 2: 3.0, 3: 3.0}) == 2
    assert best_of([1, 2], {2: 5.0}) == 2
    assert best_of([], {}) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"params": {"w": jnp.zeros((2, 3), jnp.bfloat16), "b": jnp.zeros(3)}},
            r"params\.w is saved as float32\[2, 3\], the learner wants bfloat16\[2, 3\]",
        ),
        ({"params": {"w": jnp.zeros((2, 3), jnp.int32), "b": jnp.zeros(3)}}, rf"{SAVED_AS} int32\[2, 3\]"),
        (
            {"params": {"w": jnp.zeros((2, 4)), "b": jnp.zeros(3)}},
            rf"{SAVED_AS} float32\[2, 4\]",
        ),
        ({"step": jnp.float32(0)}, r"step was int32\[\], now it is float32\[\]"),
        ({"key": jax.random.split(jax.random.key(0), 5)}, r"key was uint32\[4, 2\], now it is uint32\[5, 2\]"),
        ({"params": {"w": jnp.zeros((2, 3))}}, r"params\.b is saved as float32\[3\], the learner wants nothing"),
        ({"accumulators": jnp.zeros(2)}, "accumulators is missing"),
    ],
)
def test_another_form_is_refused_by_a_freshly_opened_directory(saved, opened, change, message):
    """Orbax would cast silently, and does not know the types of what another process wrote until it has read it."""
    with pytest.raises(UserError, match=message) as refused:
        restore(opened(saved, read_only=True), 3, state()._replace(**change))
    assert "\n" not in str(refused.value)


def test_a_cast_is_refused_by_a_directory_that_has_been_read_from(saved, opened):
    checkpoints = opened(saved, read_only=True)
    restore(checkpoints, 3, state())
    with pytest.raises(UserError, match="step was int32"):
        restore(checkpoints, 3, state()._replace(step=jnp.float32(0)))
    assert_same(restore(checkpoints, 3, state())[0], state(3))


@pytest.mark.parametrize("saved_on", [1, 4])
@pytest.mark.parametrize("devices", [1, 2, 4])
def test_other_devices_may_restore(tmp_path, opened, saved_on, devices):
    def placed(count: int) -> State:
        parallel = Parallel("shard_map", jax.devices()[:count])
        whole = parallel.replicate(state(5)._replace(accumulators=()))
        return whole._replace(accumulators=parallel.spread(jnp.arange(8.0).reshape(4, 2)))

    checkpoints = opened(tmp_path)
    save(checkpoints, 1, placed(saved_on), {}, 1.0)
    checkpoints.wait()
    like = placed(devices)
    form = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), like)
    restored, _ = restore(opened(tmp_path, read_only=True), 1, form)
    assert_same(restored, like)
    rest = (restored._replace(params=()), like._replace(params=()))
    for one, other in zip(*map(jax.tree.leaves, rest), strict=True):
        assert one.sharding.is_equivalent_to(other.sharding, one.ndim)


@pytest.mark.parametrize(
    "name", ["meta/metadata", "params/params.npz", "state/_METADATA", "state/manifest.ocdbt", "state/d/*"]
)
def test_a_damaged_checkpoint_is_one_line_and_the_others_are_good(saved, opened, tmp_path, capfd, name):
    directory = Path(shutil.copytree(saved, tmp_path / "copy"))
    (damaged,) = (directory / "3").glob(name)
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    checkpoints = opened(directory)
    with pytest.raises(UserError, match=r"/3: this checkpoint cannot be restored \(.+\): .*damaged") as refused:
        restore(checkpoints, 3, state())
    assert "\n" not in str(refused.value)
    assert capfd.readouterr().err == ""
    assert checkpoints.best() == 1
    assert_same(restore(checkpoints, 2, state())[0], state(2))


def test_a_damaged_best_is_no_longer_the_best(saved, opened, tmp_path):
    directory = Path(shutil.copytree(saved, tmp_path / "copy"))
    (directory / "1" / "meta" / "metadata").write_text("{")
    assert opened(directory).best() == 3


def test_half_a_checkpoint_is_no_checkpoint(saved, opened, tmp_path):
    """What a process leaves that is killed while it saves."""
    directory = Path(shutil.copytree(saved, tmp_path / "copy"))
    (directory / "3").rename(directory / "3.orbax-checkpoint-tmp")
    assert opened(directory, read_only=True).newest() == 2
    checkpoints = opened(directory)
    assert checkpoints.newest() == 2
    save(checkpoints, 3, state(3), {}, 1.0)
    checkpoints.wait()
    assert steps(directory) == [1, 2, 3]


@pytest.mark.parametrize("when", ["save", "wait_until_finished"])
def test_a_full_disk_is_named_with_what_is_intact(tmp_path, opened, monkeypatch, when):
    checkpoints = opened(tmp_path)
    save(checkpoints, 1, state(1), {}, 1.0)
    checkpoints.wait()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints._manager, when, full)
        with pytest.raises(UserError, match=r"\(the disk is full\); the one of step 1 is intact: free space"):
            save_and_wait(checkpoints, 2)
    assert_same(restore(opened(tmp_path, read_only=True), 1, state())[0], state(1))


def test_a_failure_before_the_first_checkpoint_says_so(tmp_path, opened, monkeypatch):
    checkpoints = opened(tmp_path)

    def broken(*_: Any, **__: Any) -> None:
        raise ValueError("INTERNAL: something\nof several lines")

    monkeypatch.setattr(checkpoints._manager, "save", broken)
    with pytest.raises(UserError, match=r"\(INTERNAL: something of several lines\); no checkpoint had been written"):
        save(checkpoints, 1, state(), {}, 1.0)


@pytest.mark.parametrize("left", [0, 1])
def test_a_checkpoint_that_has_been_removed_is_not_called_intact(tmp_path, opened, monkeypatch, left):
    """As where somebody deletes the run directory while the run is under way."""
    checkpoints = opened(tmp_path)
    for step in (1, 2):
        save(checkpoints, step, state(step), {}, 1.0)
    checkpoints.wait()
    for step in range(left + 1, 3):
        shutil.rmtree(tmp_path / str(step))

    def gone(*_: Any, **__: Any) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "3.orbax-checkpoint-tmp")

    monkeypatch.setattr(checkpoints._manager, "save", gone)
    what = "the one of step 1 is intact" if left else "those before it have been removed"
    with pytest.raises(UserError, match=what):
        save(checkpoints, 3, state(), {}, 1.0)
    assert checkpoints.newest() == (1 if left else None)


def test_reading_alone_changes_nothing(saved, opened):
    before = sorted((path, path.stat().st_mtime_ns) for path in saved.rglob("*"))
    checkpoints = opened(saved, read_only=True)
    restore(checkpoints, find_step(saved, "best"), state())
    assert sorted((path, path.stat().st_mtime_ns) for path in saved.rglob("*")) == before


# What is changed for the whole process while Orbax works.


@pytest.fixture(autouse=True)
def _no_failure_before() -> None:
    while _Quiet._open:
        _Quiet.leave()


class Process(NamedTuple):
    """What `Checkpoints` changes of it."""

    levels: list[int]
    hook: Any
    filters: list[Any]

    @classmethod
    def now(cls) -> Process:
        levels = [logging.getLogger(name).level for name in ("absl", "asyncio")]
        return cls(levels, sys.unraisablehook, list(warnings.filters))


def test_loggers_warnings_and_hooks_are_as_before_when_the_last_directory_is_closed(tmp_path: Path):
    before = Process.now()
    first, second = Checkpoints(tmp_path / "first"), Checkpoints(tmp_path / "second")
    during = Process.now()
    assert during.levels == [logging.CRITICAL] * 2
    assert during.hook is not before.hook
    assert len(during.filters) == len(before.filters) + 1
    first.close()
    assert Process.now() == during
    second.close()
    assert Process.now() == before


def test_they_stay_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What was under way beside it may end later, and would be told of then."""
    checkpoints = Checkpoints(tmp_path / "copy")
    during = Process.now()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for method in ("save", "wait_until_finished", "restore", "close"):
        monkeypatch.setattr(checkpoints._manager, method, full)
    for attempt in (lambda: save_and_wait(checkpoints, 1), checkpoints.wait, lambda: restore(checkpoints, 1, state())):
        with pytest.raises(UserError):
            attempt()
    monkeypatch.undo()
    monkeypatch.setattr(checkpoints._manager, "close", full)
    with pytest.raises(UserError, match="the disk is full"):
        checkpoints.close()
    assert Process.now() == during
    monkeypatch.undo()
    checkpoints._manager.close()


def test_so_they_are_where_it_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = Process.now()
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        Checkpoints(tmp_path / "file" / "checkpoints")
    assert Process.now() == before


def test_a_filter_and_a_hook_of_somebody_else_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
        before = Process.now()
        checkpoints = Checkpoints(tmp_path)
        monkeypatch.setattr(sys, "unraisablehook", print)
        checkpoints.close()
        assert Process.now() == before._replace(hook=print)
