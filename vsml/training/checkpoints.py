"""Checkpoints of the whole state of a meta-training, by Orbax: asynchronous, the newest and the best are kept.

A checkpoint is written beside its final name and renamed when whole, so that a killed process or a full disk never
costs an earlier one.
"""

from __future__ import annotations

import errno
import logging
from pathlib import Path
from typing import Any, Literal

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from vsml.errors import UserError

KEEP_NEWEST = 2


class Checkpoints:
    """The checkpoints of one run directory."""

    def __init__(self, directory: Path, read_only: bool = False):
        """Opens (and, unless `read_only`, creates) a directory of checkpoints."""
        logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax narrates every save at INFO
        self.directory = directory.absolute()
        keep = policies.AnyPreservationPolicy(
            [
                policies.LatestN(KEEP_NEWEST),
                policies.BestN(get_metric_fn=lambda metrics: metrics["loss"], reverse=True, n=1),
            ]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=keep,
            create=not read_only,
            read_only=read_only,
            cleanup_tmp_directories=not read_only,
            step_prefix=None,
        )
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    def newest(self) -> int | None:
        """Meta-steps of the newest whole checkpoint, None if there is none."""
        return self._manager.latest_step()

    def best(self) -> int | None:
        """Meta-steps of the kept checkpoint with the lowest `loss`, None if there is none."""
        losses = {step: self.meta(step)["loss"] for step in self._manager.all_steps()}
        return min(losses, key=losses.__getitem__) if losses else None

    def meta(self, step: int) -> dict[str, Any]:
        """What was saved beside the arrays, with the `loss` that ranks checkpoints."""
        return self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]

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
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave({**meta, "loss": loss})
                ),
                metrics={"loss": loss},
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
            self._check_types(step, abstract)
            restored = self._manager.restore(
                step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract), meta=ocp.args.JsonRestore())
            )
        except Exception as error:
            raise UserError(
                f"{self.directory / str(step)}: this checkpoint cannot be restored ({_one_line(error)}): was it "
                "written by another experiment, or damaged? Choose another --run_dir, or delete this checkpoint to go "
                "on from an older one"
            ) from error
        return restored["state"], restored["meta"]

    def _check_types(self, step: int, abstract: Any) -> None:
        """Orbax casts silently where types differ; a resumed run would then no longer be the run that was saved."""
        saved = jax.tree.leaves(self._manager.item_metadata(step)["state"])
        for old, new in zip(saved, jax.tree.leaves(abstract), strict=False):
            if old.dtype != new.dtype:
                raise ValueError(f"saved as {old.dtype}, now {new.dtype}")

    def close(self) -> None:
        """Ends the background threads. Call before the process exits."""
        try:
            self._manager.close()
        except Exception as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> UserError:
        full = (isinstance(error, OSError) and error.errno == errno.ENOSPC) or "no space left" in str(error).lower()
        cause = "the disk is full" if full else _one_line(error)
        newest = self.newest()
        kept = "no checkpoint had been written before" if newest is None else f"the one of step {newest} is intact"
        return UserError(
            f"{self.directory}: a checkpoint could not be written ({cause}); {kept}: "
            "free space or choose another --run_dir and run the same command again"
        )


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:200] + "..."
