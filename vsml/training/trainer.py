"""The trainer: reads top to bottom in the order of execution."""

from __future__ import annotations

import sys
import time
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from vsml.analysis.cost import count
from vsml.analysis.tables import evaluation_table
from vsml.config import Config
from vsml.errors import UserError
from vsml.experiment import Experiment
from vsml.precision import products_in
from vsml.training.checkpoints import Checkpoints, newest_step
from vsml.training.distributed import all_or_none, check_shared, is_main, part, together
from vsml.training.dry_run import check_meta_parameters, shapes_of_learner
from vsml.training.interruption import CommonSignal, Interrupted, catch_interruption, name_of
from vsml.training.meta_step import build_meta_step, init_estimator, init_state
from vsml.training.parallel import Parallel, choose_devices, fetch_replicated
from vsml.training.progress import follow
from vsml.training.run_directory import RunDirectory, differences, peak_memory
from vsml.training.writers import TensorBoard, compared_by, read_metrics
from vsml.types import Params


def train(config: Config, directory: Path, num_devices: int | None = None) -> dict[str, Any]:
    """Meta-trains, or resumes, or shows that nothing is left to do; then evaluates.

    Args:
      config: the resolved config.
      directory: the run directory, new or of an earlier run of the same experiment.
      num_devices: devices to use; None as `choose_devices` says.

    Returns:
      The content of `summary.json`; in other processes than the first, what is known of it without evaluations.

    Raises:
      UserError: what the user can mend; nothing already saved is lost. `Interrupted` after a signal, with the state
        saved.
    """
    experiment, parallel, run, start, summary = together(lambda: _prepare(config, directory, num_devices))
    check_shared(run.path)
    if summary is not None:
        say(f"{run.path}: this run is complete ({start} meta-steps)")
        return summary
    say(
        f"{config.recipe}: {experiment.steps} meta-steps of {_lifetimes(experiment)} on {_where(parallel)} by "
        f"{experiment.parallel}; run directory {run.path}"
    )
    if is_main():
        run.summary_json.unlink(missing_ok=True)  # of an end that is none any more
        run.write_config(config)
    with closing(Checkpoints(run.checkpoints)) as checkpoints, all_or_none(), products_in(experiment.precision):
        params, seconds = _meta_train(experiment, parallel, run, checkpoints, start, config)
    head = summary_head(config, experiment, parallel.num_devices, seconds)
    return finish(run, config, experiment, params, head) if part() else head


def _prepare(
    config: Config, directory: Path, num_devices: int | None
) -> tuple[Experiment, Parallel, RunDirectory, int, dict[str, Any] | None]:
    """Whatever can go wrong before the first meta-step, and shows already.

    Returns:
      The experiment, its devices, its run directory, the meta-steps that are done, and the summary of a complete run.
    """
    experiment = config.build()
    check_meta_parameters(experiment)  # loads the data: a missing file shows before anything is written
    members = [share.members for share in experiment.shares]
    parallel = Parallel(experiment.parallel, choose_devices(experiment.population, num_devices, members))
    for evaluator in experiment.evaluators:
        evaluator.check()

    run = RunDirectory(directory)
    run.create()
    start, same_evaluators = _compare_with_earlier_run(run, config, experiment)
    summary = run.read_summary()
    complete = summary and summary["meta_steps"] == start == experiment.steps and same_evaluators
    return experiment, parallel, run, start, summary if complete else None


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


def summary_head(config: Config, experiment: Experiment, num_devices: int, seconds: float) -> dict[str, Any]:
    """The part of `summary.json` that is known without any evaluation."""
    params, learned = shapes_of_learner(experiment)
    return {
        "recipe": config.recipe,
        "seed": experiment.seed,
        "meta_steps": experiment.steps,
        "seconds": round(seconds, 1),
        "devices": num_devices,
        "num_meta_parameters": count(params),
        "num_learned_variables": count(learned),
    }


def finish(
    run: RunDirectory, config: Config, experiment: Experiment, params: Params, head: dict[str, Any]
) -> dict[str, Any]:
    """Runs the evaluators with V_M frozen and writes `summary.json`, curves and TensorBoard's `eval/`."""
    evaluations = {}
    board = TensorBoard(run.path, resume_step=head["meta_steps"])
    with closing(board), products_in(experiment.precision):
        for evaluator in experiment.evaluators:
            started = time.monotonic()
            evaluation = evaluator.run(experiment.learner, params)
            evaluation.save(run.evaluations)
            board.evaluation(head["meta_steps"], evaluation)
            evaluations[evaluation.name] = evaluation.summary
            say(f"evaluated {evaluation.name} in {time.monotonic() - started:.0f} s")
        outcome = compared_by(read_metrics(run.metrics), evaluations)
        board.config(config.text, run.hyperparameters(config), outcome)
        board.outcome(head["meta_steps"], outcome)
    summary = {**head, "peak_memory_bytes": peak_memory(), "evaluations": evaluations}
    run.write_json("summary.json", summary)
    return summary


def show(summary: dict[str, Any]) -> str:
    """The lines that end a run: what was trained, and the table."""
    head = (
        f"{summary['recipe']}: {summary['meta_steps']} meta-steps in {summary['seconds']:.0f} s "
        f"on {summary['devices']} device(s), |V_M| = {summary['num_meta_parameters']:,}, "
        f"|V_L| = {summary['num_learned_variables']:,}"
    )
    return "\n".join([head, evaluation_table(summary["evaluations"])]) if summary["evaluations"] else head


def say(message: str) -> None:
    """Tells the user what happens, once for all processes; results alone go to standard output."""
    if is_main():
        print(message, file=sys.stderr, flush=True)


def _compare_with_earlier_run(run: RunDirectory, config: Config, experiment: Experiment) -> tuple[int, bool]:
    """Compares with an earlier run in this directory; refuses another experiment.

    Returns:
      Its finished meta-steps, 0 for none, and whether its evaluators are those of today.
    """
    start = newest_step(run.checkpoints)
    if start is None:
        return 0, True
    allowed, refused = differences(run.saved_config(), config)
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
    return start, not any(line.startswith("train.evaluators") for line in allowed)


def _meta_train(
    experiment: Experiment, parallel: Parallel, run: RunDirectory, checkpoints: Checkpoints, start: int, config: Config
) -> tuple[Params, float]:
    """The loop. Returns the final meta-parameters as host arrays, and the seconds that all runs of `run` have spent."""
    data = experiment.load()
    state = jax.jit(lambda: init_state(experiment))()
    estimator = parallel.spread(jax.jit(lambda s, d: init_estimator(experiment, s.params, d))(state, data))
    state, data = parallel.replicate(state), parallel.replicate(data)
    seconds = 0.0
    best = {"step": 0, "loss": float("inf")}
    if start:
        (state, estimator), meta = checkpoints.restore(start, (state, estimator))
        seconds, best = meta["seconds"], meta["best"]
        say(f"resumed after {start} meta-steps")
    if start == experiment.steps:
        return fetch_replicated(state.params), seconds

    meta_step = build_meta_step(experiment, parallel.num_devices)
    step = parallel.compile(meta_step, experiment.meta_optimizer.differentiates)
    state, estimator, data = (parallel.enter(tree) for tree in (state, estimator, data))
    started = time.monotonic() - seconds

    def save(done: int, smoothed_loss: float) -> None:
        nonlocal best, seconds
        seconds = time.monotonic() - started - (progress.evaluating_seconds if progress else 0)
        if smoothed_loss < best["loss"]:
            best = {"step": done, "loss": smoothed_loss}
        if progress:
            progress.board.flush()  # a resumed run does not write again what comes before its checkpoint
        # Copied: the next step reuses the buffers while the checkpoint is written in the background.
        whole = jax.tree.map(jnp.copy, (parallel.leave(state), parallel.leave(estimator, members=True)))
        checkpoints.save(done, whole, {"seconds": seconds, "best": best}, smoothed_loss)

    following = follow(run, config, experiment, parallel, start, seconds) if is_main() else nullcontext()
    with following as progress, catch_interruption() as interruption:
        asked_to_stop = CommonSignal(interruption, parallel)
        if progress:
            progress.evaluate(start, state.params)
        for done in range(start + 1, experiment.steps + 1):
            state, estimator, metrics = step(state, estimator, data)
            last = done == experiment.steps
            stop = asked_to_stop.look()  # once: it may change at any time
            if progress:
                progress.tell(done, metrics, state.params)
            if done % experiment.max_non_finite == 0 or last:
                _stop_if_stuck(experiment, int(parallel.fetch(metrics["skipped_in_row"])), done, checkpoints)
            if done % experiment.checkpoint_every == 0 or last or stop:
                save(done, float(parallel.fetch(metrics["smoothed_loss"])))
            if stop:
                _leave(stop, done, experiment, run, checkpoints)
            if progress:
                progress.evaluate(done, state.params)
        checkpoints.wait()
    state = fetch_replicated(parallel.leave(state))
    if skipped := int(state.skipped):
        say(f"{skipped} of {experiment.steps} meta-gradients were not finite and were skipped")
    return state.params, seconds


def _stop_if_stuck(experiment: Experiment, in_row: int, done: int, checkpoints: Checkpoints) -> None:
    if in_row < experiment.max_non_finite:
        return
    checkpoints.wait()
    newest = checkpoints.newest()
    kept = f"the checkpoint of step {newest} is intact" if newest else "no checkpoint was written yet"
    error = UserError(
        f"the last {in_row} meta-gradients up to step {done} were not finite, so meta-training has stopped; {kept}: "
        "lower the learning rate or clip the meta-gradient (optax.clip_by_global_norm), or raise train.max_non_finite"
    )
    error.alike = True
    raise error


def _leave(stop: int, done: int, experiment: Experiment, run: RunDirectory, checkpoints: Checkpoints) -> None:
    checkpoints.wait()
    raise Interrupted(
        f"stopped by {name_of(stop)} after {done} of {experiment.steps} meta-steps; all is saved in {run.path}: "
        "run the same command again to go on",
        stop,
    )
