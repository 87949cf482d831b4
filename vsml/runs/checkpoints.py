"""Checkpoints of the whole state of meta-training, saved by Orbax in the background; some are kept.

    STEP/params/params.npz    V_M, as in an exported file: numpy alone reads it (see `saved`)
    STEP/state/               the rest: optimizer, estimator, counters
    STEP/meta/metadata        JSON: seconds, loss, ...

A checkpoint is written under a temporary name and renamed when it is whole, so that a killed process or a full disk
never damages an earlier one.
"""

from __future__ import annotations

import errno
import inspect
import logging
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from vsml.errors import UserError
from vsml.runs import names
from vsml.runs.meta_parameters import MetaParameters, by_name
from vsml.runs.saved import best_of, losses, newest_step
from vsml.types import Params

KEEP_NEWEST = 2


@dataclass(frozen=True)
class NewestAndBest(policies.PreservationPolicy):
    """Which checkpoints are kept: the newest ones, that of the lowest loss, whichever process wrote it, and milestones.

    Orbax's own policy keeps all that an earlier process wrote, since it does not know their losses.
    """

    losses: Mapping[int, float]  # by step; grows while checkpoints are written
    every: int | None = None  # multiples of that many meta-steps are kept as well

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """One answer per checkpoint, oldest first."""
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = {*steps[-KEEP_NEWEST:], best_of(steps, self.losses)}
        return [step in kept or (self.every is not None and step % self.every == 0) for step in steps]


class ParamsHandler(ocp.CheckpointHandler):
    """Orbax's access to the item `params`, which one process writes for all."""

    def save(self, directory: Any, args: ParamsSave) -> None:
        """Writes the one file of the item."""
        if ocp.multihost.is_primary_host(0):
            (Path(directory) / names.PARAMS_FILE).write_bytes(args.item.to_bytes())

    def restore(self, directory: Any, args: ParamsRestore) -> MetaParameters:
        """Reads the one file of the item."""
        return MetaParameters.read(Path(directory) / names.PARAMS_FILE)


@ocp.args.register_with_handler(ParamsHandler, for_save=True)
@dataclass
class ParamsSave(ocp.args.CheckpointArgs):
    """Asks Orbax to save meta-parameters."""

    item: MetaParameters


@ocp.args.register_with_handler(ParamsHandler, for_restore=True)
@dataclass
class ParamsRestore(ocp.args.CheckpointArgs):
    """Asks Orbax for meta-parameters."""


class Checkpoints:
    """The checkpoints of one run directory. Several processes open, save, wait, restore and close together."""

    def __init__(self, directory: Path, read_only: bool = False, keep_every: int | None = None):
        """Opens (and, unless `read_only`, creates) a directory of checkpoints.

        Those of multiples of `keep_every` meta-steps are kept for good.
        """
        self.directory = directory.absolute()
        self._losses: dict[int, float] = {}
        self._failed = False
        options = ocp.CheckpointManagerOptions(
            preservation_policy=NewestAndBest(self._losses, keep_every),
            create=not read_only,
            read_only=read_only,
            cleanup_tmp_directories=not read_only,
            step_prefix=None,
        )
        # Given here, since otherwise the first look at a checkpoint's types would find nothing.
        handlers = {
            names.PARAMS: ParamsHandler(),
            names.STATE: ocp.StandardCheckpointHandler(),
            names.META: ocp.JsonCheckpointHandler(),
        }
        _Quiet.enter()
        try:
            self._manager = ocp.CheckpointManager(self.directory, options=options, item_handlers=handlers)
        except BaseException:
            _Quiet.leave()
            raise
        self._losses |= losses(self.directory)

    def newest(self) -> int | None:
        """Meta-steps of the newest whole checkpoint on disk, whatever Orbax remembers; None if there is none."""
        return newest_step(self.directory)

    def best(self) -> int | None:
        """Meta-steps of the kept checkpoint with the lowest `loss`, None if there is none."""
        return best_of(sorted(self._manager.all_steps()), self._losses)

    def save(self, step: int, params: Params, state: Any, meta: dict[str, Any], loss: float) -> None:
        """Starts to save; the write of `state` goes on in the background.

        Args:
          step: finished meta-steps.
          params: meta-parameters, whole in every process.
          state: a tree of arrays, all else that the next meta-step depends on.
          meta: JSON.
          loss: ranks checkpoints, lower is better.

        Raises:
          UserError: this save or the one before it could not be written.
        """
        self._losses[step] = loss
        items = {
            names.PARAMS: ParamsSave(MetaParameters.of(params, {"step": step})),
            names.STATE: ocp.args.StandardSave(state),
            names.META: ocp.args.JsonSave({**meta, "loss": loss}),
        }
        self._write(lambda: self._manager.save(step, args=ocp.args.Composite(**items), force=True))

    def wait(self) -> None:
        """Returns when everything is on disk. Raises `UserError` where a write failed."""
        self._write(self._manager.wait_until_finished)
        self._write(self._manager.check_for_errors)

    def restore(self, step: int, params_like: Params, state_like: Any) -> tuple[Params, Any, dict[str, Any]]:
        """Restores a checkpoint.

        Args:
          step: which one.
          params_like: a tree of arrays or shapes, the form of the meta-parameters.
          state_like: a tree of arrays or `ShapeDtypeStruct`s with shardings, the form to restore the state into; its
            devices may differ from those of the process that saved it.

        Returns:
          The meta-parameters as host arrays, the state in the form of `state_like`, and the meta dict.

        Raises:
          UserError: shapes, types or keys differ from what was saved, or the files are damaged.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, state_like)
        items = {
            names.PARAMS: ParamsRestore(),
            names.STATE: ocp.args.StandardRestore(abstract),
            names.META: ocp.args.JsonRestore(),
        }
        try:
            self._check_form(step, abstract)
            restored = self._manager.restore(step, args=ocp.args.Composite(**items))
            return restored[names.PARAMS].fill(params_like), restored[names.STATE], restored[names.META]
        except Exception as error:
            self._failed = True
            raise UserError(
                f"{self.directory / str(step)}: this checkpoint cannot be restored ({_one_line(error)}): was it "
                "written by another experiment, or damaged? Choose another --run_dir, or delete this checkpoint to go "
                "on from an older one"
            ) from None

    def _check_form(self, step: int, abstract: Any) -> None:
        """Raises `ValueError` where arrays or their types and shapes differ from what was saved.

        Orbax casts silently, and leaves alone what was saved as an empty node; a resumed run would then no longer be
        the run that was saved.
        """
        description = self._manager.item_metadata(step)[names.STATE]
        if description is None:
            raise ValueError("the description of its arrays is missing")
        saved, wanted = by_name(description.tree), by_name(jax.eval_shape(_plain_arrays, abstract))
        for name in sorted(saved.keys() ^ wanted.keys()):
            raise ValueError(f"{name} is {'not wanted' if name in saved else 'missing'}")
        for name, new in wanted.items():
            old = saved[name]
            if (old.dtype, old.shape) != (new.dtype, new.shape):
                raise ValueError(f"{name} was {old.dtype}{list(old.shape)}, now it is {new.dtype}{list(new.shape)}")

    def close(self) -> None:
        """Ends the background threads. Call once, before the process exits."""
        try:
            self._write(self._manager.close)
        finally:
            if not self._failed:
                _Quiet.leave()

    def _write(self, action: Callable[[], object]) -> None:
        """Does what may fail to write. Raises `UserError` where it does."""
        try:
            action()
        except Exception as error:
            raise self._failure(error) from None

    def _failure(self, error: Exception) -> UserError:
        self._failed = True
        full = (isinstance(error, OSError) and error.errno == errno.ENOSPC) or "no space left" in str(error).lower()
        cause = "the disk is full" if full else _one_line(error)
        mend = "free space or choose another --run_dir and run the same command again"
        steps = self._manager.all_steps()  # also those whose write goes on in the background
        if there := [step for step in steps if any(self.directory.glob(f"{step}*"))]:
            kept = f"the one of step {max(there)} is intact"
        elif steps:
            kept, mend = "those before it have been removed", "run the same command again to begin from the start"
        else:
            kept = "no checkpoint had been written before"
        return UserError(f"{self.directory}: a checkpoint could not be written ({cause}); {kept}: {mend}")


class _Quiet:
    """Keeps Orbax silent while any directory of checkpoints is open.

    Orbax logs every save. Where one fails, its coroutines and threads print hundreds of lines besides the one error
    that is raised. Loggers, warnings and the hook of the process are restored when the last directory is closed; after
    a failure they stay silent, since other reads and writes may end at any time, even with the process.
    """

    LOGGERS = ("absl", "asyncio")
    _open = 0
    _levels: Mapping[str, int]
    _hook: Callable[[Any], object]
    _hook_before: Callable[[Any], object]
    _filter: Any

    @classmethod
    def enter(cls) -> None:
        cls._open += 1
        if cls._open > 1:
            return
        cls._levels = {name: logging.getLogger(name).level for name in cls.LOGGERS}
        for name in cls.LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        cls._hook, cls._hook_before = _without_leftovers(sys.unraisablehook), sys.unraisablehook
        sys.unraisablehook = cls._hook
        before = list(warnings.filters)
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
        cls._filter = None if warnings.filters[0] in before else warnings.filters[0]

    @classmethod
    def leave(cls) -> None:
        cls._open -= 1
        if cls._open > 0:
            return
        for name, level in cls._levels.items():
            logging.getLogger(name).setLevel(level)
        if sys.unraisablehook is cls._hook:  # not if another one was set since
            sys.unraisablehook = cls._hook_before
        if cls._filter in warnings.filters:
            warnings.filters.remove(cls._filter)  # pyright: ignore[reportAttributeAccessIssue]


def _without_leftovers(hook: Callable[[Any], object]) -> Callable[[Any], object]:
    """A `sys.unraisablehook` that drops the messages of Orbax's reads and writes that end after a failed one."""

    def filtered(unraisable: Any) -> None:
        late = isinstance(unraisable.exc_value, RuntimeError) and str(unraisable.exc_value) == "Event loop is closed"
        if not late and not inspect.iscoroutine(unraisable.object):
            hook(unraisable)

    return filtered


def _plain_arrays(tree: Any) -> Any:
    """Random keys as the numbers that are saved."""
    is_key = lambda leaf: jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)  # noqa: E731
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if is_key(leaf) else leaf, tree)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:200] + "..."
