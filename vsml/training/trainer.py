"""The trainer: reads top to bottom in the order of execution."""

from __future__ import annotations

import dataclasses
import time
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import jax

from vsml.config import Config
from vsml.errors import UserError
from vsml.evaluation.data import notes_on_repeats
from vsml.experiment import Experiment
from vsml.hardware import products_in
from vsml.runs.checkpoints import Checkpoints
from vsml.runs.directory import RunDirectory, differences
from vsml.runs.history import EXCHANGED, Change, about_schedule, changes, fingerprints, note, swaps
from vsml.runs.lock import RunLock
from vsml.runs.results import Run
from vsml.runs.saved import newest_step, read_meta
from vsml.training.distributed import all_or_none, check_alike, check_shared, is_main, leave_cluster, say, together
from vsml.training.dry_run import check_evaluators, check_meta_parameters
from vsml.training.interruption import CommonSignal, Interrupted, catch_interruption, name_of
from vsml.training.meta_step import build_meta_step, init_estimator, init_state
from vsml.training.meta_test import finish, summary_head
from vsml.training.parallel import Parallel, choose_devices, fetch_replicated
from vsml.training.progress import follow
from vsml.training.starting import Start, read_start
from vsml.training.trace import Trace
from vsml.types import Metrics, Params


def train(config: Config, directory: Path, num_devices: int | None = None) -> dict[str, Any]:
    """Meta-trains, or resumes, or shows that nothing is left to do; then evaluates.

    Args:
      config: the resolved config.
      directory: the run directory, new or of an earlier run of the same experiment.
      num_devices: devices to use; None as `choose_devices` says.

    Returns:
      The content of `summary.json`; in other processes than the first, its part without evaluations.

    Raises:
      UserError: what the user can fix; nothing already saved is lost. `Interrupted` after a signal, with the state
        saved.
    """
    with closing(RunLock(directory.absolute(), say)) as lock:
        experiment, parallel, run, start, origin, changed, data, summary = together(
            lambda: _prepare(config, directory, num_devices, lock)
        )
        check_shared(run.path)
        digests = {f"the data of meta-training {name}".rstrip(): digest for name, digest in data.items()}
        check_alike(digests, "give all of them the same files")
        if origin.record is not None:
            digest = {f"what train.start_from={experiment.start_from} holds": origin.record["sha256"]}
            check_alike(digest, "name a file or a checkpoint that does not change")
        if summary is not None:
            say(f"{run.path}: this run is complete ({start} meta-steps)")
            return summary
        say(
            f"{config.recipe}: {experiment.steps} meta-steps of {_lifetimes(experiment)} on {_where(parallel)} by "
            f"{experiment.parallel}; run directory {run.path}"
        )
        for line in notes_on_repeats(experiment.shares, experiment.evaluators):
            say(line)
        if is_main():
            run.summary_json.unlink(missing_ok=True)  # of an earlier end, which no longer holds
            note(run, start, changed, data, parallel.num_devices)
            changed_on_the_way = swaps(Run(run.path, run.path.name).history)
            run.write_config(config, [EXCHANGED, *changed_on_the_way] if changed_on_the_way else [])
        with (
            closing(Checkpoints(run.checkpoints, keep_every=experiment.keep_every)) as checkpoints,
            all_or_none(),
            products_in(experiment.precision),
        ):
            params, meta = _meta_train(experiment, parallel, run, lock, checkpoints, start, origin, data, config)
        head = summary_head(config, experiment, parallel.num_devices, experiment.steps, meta)
        lock.check()
        return finish(run, config, experiment, params, head) if leave_cluster() else head


class _Prepared(NamedTuple):
    """What a run begins with, or goes on with."""

    experiment: Experiment
    parallel: Parallel
    run: RunDirectory
    start: int  # meta-steps that are done
    origin: Start
    changed: list[Change]  # since the last start
    data: dict[str, str]  # fingerprints by share
    summary: dict[str, Any] | None  # of a complete run


def _prepare(config: Config, directory: Path, num_devices: int | None, lock: RunLock) -> _Prepared:
    """All that comes before the first meta-step; most errors of a user show here."""
    experiment = config.build()
    check_meta_parameters(experiment)  # loads the data: a missing file shows before anything is written
    members = [share.members for share in experiment.shares]
    parallel = Parallel(experiment.parallel, choose_devices(experiment.population, num_devices, members))
    check_evaluators(experiment)

    run = RunDirectory(directory)
    # A run that is resumed goes on from its own checkpoint; what it began with may be gone.
    origin = read_start(experiment) if newest_step(run.checkpoints) is None else Start(None, None)
    run.create()
    if is_main():
        lock.acquire()
    start, changed = _compare_with_earlier_run(run, config, experiment)
    earlier = Run(run.path, run.path.name)
    # Damage shows before anything is written.
    summary, _, _, _ = earlier.summary, earlier.metrics, earlier.interim, earlier.history
    same_evaluators = not any(change.evaluates for change in changed)
    complete = summary and summary["meta_steps"] == start == experiment.steps and same_evaluators
    data = fingerprints([share.name for share in experiment.shares], experiment.load())
    if start < experiment.steps:
        _refuse_other_data(run, start, data)
    return _Prepared(experiment, parallel, run, start, origin, changed, data, summary if complete else None)


def _refuse_other_data(run: RunDirectory, start: int, data: dict[str, str]) -> None:
    """Raises `UserError` where a run would go on with other data than it began with."""
    saved = (read_meta(run.checkpoints, start) if start else {}).get("data") or data  # an earlier version saved none
    for name, digest in data.items():
        if saved.get(name) != digest:
            of = f" of {name}" if name else ""
            raise UserError(
                f"{run.path}: the data{of} are not those of its first {start} meta-steps (they were rewritten, or "
                "others are found first): restore them, or choose another --run_dir, with train.start_from to go on "
                "from these meta-parameters"
            )


def _lifetimes(experiment: Experiment) -> str:
    """How many lifetimes of how many examples, by share of the population."""
    return " + ".join(
        f"{share.members} x {share.tasks.spec.length} examples" + (f" of {share.name}" if share.name else "")
        for share in experiment.shares
    )


def _where(parallel: Parallel) -> str:
    devices = f"{parallel.num_devices} {parallel.devices[0].platform} device(s)"
    processes = len({device.process_index for device in parallel.devices})
    return devices if processes == 1 else f"{devices} of {processes} processes"


def _compare_with_earlier_run(run: RunDirectory, config: Config, experiment: Experiment) -> tuple[int, list[Change]]:
    """Compares with an earlier run in this directory; refuses another experiment.

    Returns:
      Its finished meta-steps, 0 for none, and what has changed since it was started last.
    """
    start = newest_step(run.checkpoints)
    if start is None:
        return 0, []
    saved = run.saved_config()
    allowed, refused = differences(saved, config)
    if refused:
        shown = "; ".join(refused[:8]) + (f"; and {len(refused) - 8} more" if len(refused) > 8 else "")
        raise UserError(
            f"{run.path}: holds {start} meta-steps of another experiment ({shown}): "
            "choose another --run_dir, or delete this one"
        )
    if start > experiment.steps:
        raise UserError(
            f"{run.path}: already holds {start} meta-steps, more than the {experiment.steps} asked for: "
            f"set STEPS={start} or more, or choose another --run_dir"
        )
    for line in allowed:
        say(f"changed since this run was started: {line}")
    if schedule := about_schedule(saved, config, start):
        say(schedule)
    return start, changes(saved, config)


def _meta_train(
    experiment: Experiment,
    parallel: Parallel,
    run: RunDirectory,
    lock: RunLock,
    checkpoints: Checkpoints,
    start: int,
    origin: Start,
    fingerprint: dict[str, str],
    config: Config,
) -> tuple[Params, dict[str, Any]]:
    """The loop. Returns the final meta-parameters as host arrays, and the JSON of the checkpoints."""
    data = experiment.load()
    state = jax.jit(lambda params: init_state(experiment, params))(origin.params)
    estimator = parallel.spread(jax.jit(lambda s, d: init_estimator(experiment, s.params, d))(state, data))
    state, data = parallel.replicate(state), parallel.replicate(data)
    meta: dict[str, Any] = {
        "seconds": 0.0,  # of meta-training, by all commands in this directory
        "best": {"step": 0, "loss": float("inf")},
        "specs": [dataclasses.asdict(spec) for spec in experiment.specs],
        "started_from": origin.record,
        "data": fingerprint,
    }
    if start:
        like = (state._replace(params=()), estimator)
        params, (state, estimator), saved = checkpoints.restore(start, state.params, like)
        meta |= saved  # an earlier version saved fewer keys
        state = state._replace(params=parallel.replicate(params))
        say(f"resumed after {start} meta-steps")
    if start == experiment.steps:
        return fetch_replicated(state.params), meta

    meta_step = build_meta_step(experiment, parallel.num_devices)
    step = parallel.compile(meta_step, experiment.meta_optimizer.differentiates)
    running = step.start(state, estimator, data)
    del state, estimator, data
    started = time.monotonic() - meta["seconds"]

    def save(done: int, smoothed_loss: float) -> None:
        lock.check()
        evaluating = progress.evaluating_seconds if progress else 0.0
        meta["seconds"] = time.monotonic() - started - evaluating
        if smoothed_loss < meta["best"]["loss"]:
            meta["best"] = {"step": done, "loss": smoothed_loss}
        if progress:
            progress.board.flush()  # a resumed run does not write again what comes before its checkpoint
        # A copy: the next step reuses the buffers while the checkpoint is written in the background.
        whole, members = running.snapshot()
        checkpoints.save(done, whole.params, (whole._replace(params=()), members), meta, smoothed_loss)

    trace = Trace(experiment.profile_steps, run.path, start)
    if trace.missed:
        say(trace.missed)
    following = follow(run, config, experiment, start, meta["seconds"]) if is_main() else nullcontext()
    with following as progress, catch_interruption() as interruption, closing(trace):
        asked_to_stop = CommonSignal(interruption, parallel)
        if progress:
            progress.evaluate(start, running)
        for done in range(start + 1, experiment.steps + 1):
            with trace.step(done):
                running.step()
                if trace.under_way:
                    running.wait()
            last = done == experiment.steps
            stop = asked_to_stop.look()  # once: it may change at any time
            if progress:
                progress.tell(done, running)
            if done % experiment.max_non_finite == 0 or last:
                _stop_if_stuck(experiment, running.metrics(), done, checkpoints)
            if done % experiment.checkpoint_every == 0 or last or stop:
                save(done, float(running.metrics()["smoothed_loss"]))
            if stop:
                _stop(stop, done, experiment, run, checkpoints)
            if progress:
                progress.evaluate(done, running)
        checkpoints.wait()
    state = fetch_replicated(running.state)
    if skipped := int(state.skipped):
        say(f"{skipped} of {experiment.steps} meta-gradients were not finite and were skipped")
    return state.params, meta


def _stop_if_stuck(experiment: Experiment, metrics: Metrics, done: int, checkpoints: Checkpoints) -> None:
    in_row, never_moved = int(metrics["skipped_in_row"]), int(metrics["skipped"]) == experiment.steps
    if in_row < experiment.max_non_finite and not never_moved:
        return
    checkpoints.wait()
    newest = checkpoints.newest()
    kept = f"the checkpoint of step {newest} is intact" if newest else "no checkpoint was written yet"
    or_raise = "" if in_row < experiment.max_non_finite else ", or raise train.max_non_finite"
    error = UserError(
        f"the last {in_row} meta-gradients up to step {done} were not finite, so meta-training has stopped; {kept}: "
        f"lower the learning rate or clip the meta-gradient (optax.clip_by_global_norm){or_raise}"
    )
    error.alike = True
    raise error


def _stop(stop: int, done: int, experiment: Experiment, run: RunDirectory, checkpoints: Checkpoints) -> None:
    checkpoints.wait()
    raise Interrupted(
        f"stopped by {name_of(stop)} after {done} of {experiment.steps} meta-steps; all is saved in {run.path}: "
        "run the same command again to go on",
        stop,
    )
