"""Checkpoints of the whole state of a meta-training, by Orbax: asynchronous, the newest and the best are kept.

A checkpoint is written beside its final name and renamed when whole, so that a killed process or a full disk never
costs an earlier one.
"""

from __future__ import annotations

import errno
import gc
import inspect
import logging
import math
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from vsml.errors import UserError

KEEP_NEWEST = 2
AFTERMATH_SECONDS = 0.2
"""So long after a failure, reads and writes that were under way beside it have ended too."""


def best_of(steps: Sequence[int], losses: Mapping[int, float]) -> int | None:
    """The first step of the lowest loss, None if there are no steps. What is unknown or no number is never the best."""

    def rank(step: int) -> float:
        loss = losses.get(step, math.inf)
        return math.inf if math.isnan(loss) else loss

    return min(steps, key=rank, default=None)


@dataclass(frozen=True)
class NewestAndBest(policies.PreservationPolicy):
    """Which checkpoints are kept: the newest ones and that of the lowest loss, whichever process wrote it.

    Orbax's own policy keeps all that an earlier process wrote, whose losses it does not know.
    """

    losses: Mapping[int, float]  # by step; grows while checkpoints are written

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """One answer per checkpoint, oldest first."""
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = {*steps[-KEEP_NEWEST:], best_of(steps, self.losses)}
        return [step in kept for step in steps]


def newest_step(directory: Path) -> int | None:
    """Meta-steps of the newest whole checkpoint in a directory; None if there is none, or no such directory."""
    return max(ocp.utils.checkpoint_steps(directory), default=None) if directory.is_dir() else None


class Checkpoints:
    """The checkpoints of one run directory. Several processes open, save, wait, restore and close together."""

    def __init__(self, directory: Path, read_only: bool = False):
        """Opens (and, unless `read_only`, creates) a directory of checkpoints."""
        # Orbax narrates every save; and where one fails, its coroutines and threads say so in hundreds of lines beside
        # the one error that is raised.
        for chatty in ("absl", "asyncio"):
            logging.getLogger(chatty).setLevel(logging.CRITICAL)
        self._hook, self._hook_before = _without_leftovers(sys.unraisablehook), sys.unraisablehook
        sys.unraisablehook = self._hook
        self._failed = False
        self.directory = directory.absolute()
        self._losses: dict[int, float] = {}
        options = ocp.CheckpointManagerOptions(
            preservation_policy=NewestAndBest(self._losses),
            create=not read_only,
            read_only=read_only,
            cleanup_tmp_directories=not read_only,
            step_prefix=None,
        )
        # Named here, or the first look at a checkpoint's types would find nothing.
        handlers = {"state": ocp.StandardCheckpointHandler(), "meta": ocp.JsonCheckpointHandler()}
        self._manager = ocp.CheckpointManager(self.directory, options=options, item_handlers=handlers)
        self._losses |= {step: self._saved_loss(step) for step in self._manager.all_steps()}

    def newest(self) -> int | None:
        """Meta-steps of the newest whole checkpoint, None if there is none."""
        return self._manager.latest_step()

    def best(self) -> int | None:
        """Meta-steps of the kept checkpoint with the lowest `loss`, None if there is none."""
        return best_of(sorted(self._manager.all_steps()), self._losses)

    def find(self, which: Literal["newest", "best"] | int) -> int:
        """The step of a checkpoint by name or number. Raises `UserError` where there is no such checkpoint."""
        step = self.newest() if which == "newest" else self.best() if which == "best" else which
        steps = sorted(self._manager.all_steps())
        if step not in steps:
            kept = f"kept are {', '.join(map(str, steps))}" if steps else "there is none yet: train first"
            raise UserError(f"{self.directory}: no checkpoint '{which}'; {kept}")
        return step

    def save(self, step: int, state: Any, meta: dict[str, Any], loss: float) -> None:
        """Starts to save; the write goes on in the background. `loss` ranks checkpoints, lower is better.

        Raises:
          UserError: this save or the one before it could not be written.
        """
        self._losses[step] = loss
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave({**meta, "loss": loss})
                ),
                force=True,
            )
        except Exception as error:
            raise self._failure(error) from error

    def wait(self) -> None:
        """Returns when everything is on disk. Raises `UserError` where a write failed."""
        try:
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
        except Exception as error:
            raise self._failure(error) from error

    def restore(self, step: int, like: Any) -> tuple[Any, dict[str, Any]]:
        """Restores a checkpoint.

        Args:
          step: which one.
          like: a tree of arrays or `ShapeDtypeStruct`s with shardings, the form to restore into; the devices may be
            others than those that saved.

        Returns:
          The state in the form of `like`, and the meta dict.

        Raises:
          UserError: shapes, types or keys differ from what was saved, or the files are damaged.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
            self._check_form(step, abstract)
            restored = self._manager.restore(
                step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract), meta=ocp.args.JsonRestore())
            )
            return restored["state"], restored["meta"]
        except Exception as error:
            self._note_failure()
            cause = _one_line(error)
        # Raised out here, without what came before: that would keep alive what `close` waits for.
        raise UserError(
            f"{self.directory / str(step)}: this checkpoint cannot be restored ({cause}): was it written by another "
            "experiment, or damaged? Choose another --run_dir, or delete this checkpoint to go on from an older one"
        )

    def _saved_loss(self, step: int) -> float:
        """The loss that ranks a checkpoint, infinite where it cannot be read: another one is the best then."""
        try:
            return self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]["loss"]
        except Exception:
            return math.inf

    def _check_form(self, step: int, abstract: Any) -> None:
        """Raises `ValueError` where arrays or their types and shapes differ from what was saved.

        Orbax casts silently, and leaves alone what was saved as an empty node; a resumed run would then no longer be
        the run that was saved.
        """
        description = self._manager.item_metadata(step)["state"]
        if description is None:
            raise ValueError("the description of its arrays is missing")
        saved, wanted = _by_name(description.tree), _by_name(jax.eval_shape(_plain_arrays, abstract))
        for name in sorted(saved.keys() ^ wanted.keys()):
            raise ValueError(f"{name} is {'not wanted' if name in saved else 'missing'}")
        for name, new in wanted.items():
            old = saved[name]
            if (old.dtype, old.shape) != (new.dtype, new.shape):
                raise ValueError(f"{name} was {old.dtype}{list(old.shape)}, now it is {new.dtype}{list(new.shape)}")

    def close(self) -> None:
        """Ends the background threads. Call before the process exits."""
        try:
            self._manager.close()
        except Exception as error:
            raise self._failure(error) from error
        finally:
            if self._failed:
                time.sleep(AFTERMATH_SECONDS)
                gc.collect()
            if sys.unraisablehook is self._hook:
                sys.unraisablehook = self._hook_before

    def _note_failure(self) -> None:
        self._failed = True
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)

    def _failure(self, error: Exception) -> UserError:
        self._note_failure()
        full = (isinstance(error, OSError) and error.errno == errno.ENOSPC) or "no space left" in str(error).lower()
        cause = "the disk is full" if full else _one_line(error)
        newest = self.newest()
        kept = "no checkpoint had been written before" if newest is None else f"the one of step {newest} is intact"
        return UserError(
            f"{self.directory}: a checkpoint could not be written ({cause}); {kept}: "
            "free space or choose another --run_dir and run the same command again"
        )


def _without_leftovers(hook: Callable[[Any], object]) -> Callable[[Any], object]:
    """A `sys.unraisablehook` that drops what reads and writes of Orbax say which end behind one that failed."""

    def filtered(unraisable: Any) -> None:
        late = isinstance(unraisable.exc_value, RuntimeError) and str(unraisable.exc_value) == "Event loop is closed"
        if not late and not inspect.iscoroutine(unraisable.object):
            hook(unraisable)

    return filtered


def _by_name(tree: Any) -> dict[str, Any]:
    """Leaves by path, named alike in a tree and in Orbax's description of it, whose order is another."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _plain_arrays(tree: Any) -> Any:
    """Random keys as the numbers that are saved."""
    is_key = lambda leaf: jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)  # noqa: E731
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if is_key(leaf) else leaf, tree)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:200] + "..."
