"""The trainer: reads top to bottom in the order of execution."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from tqdm import tqdm

from vsml.analysis.cost import count
from vsml.analysis.tables import evaluation_table
from vsml.config import Config
from vsml.errors import UserError
from vsml.experiment import Experiment
from vsml.training.checkpoints import Checkpoints
from vsml.training.dry_run import shapes_of_learner
from vsml.training.interruption import Interrupted, Interruption, catch_interruption
from vsml.training.meta_step import TrainState, build_meta_step, init_estimator, init_state
from vsml.training.parallel import Parallel, choose_devices
from vsml.training.run_directory import RunDirectory, differences
from vsml.training.writers import MetricsFile, TensorBoard, compared_by, read_metrics
from vsml.types import Params


def train(config: Config, directory: Path, num_devices: int | None = None) -> dict[str, Any]:
    """Meta-trains, or resumes, or shows that nothing is left to do; then evaluates.

    Args:
      config: the resolved config.
      directory: the run directory, new or of an earlier run of the same experiment.
      num_devices: devices to use; None as `choose_devices` says.

    Returns:
      The content of `summary.json`.

    Raises:
      UserError: what the user can mend; nothing already saved is lost. `Interrupted` after a signal, with the state
        saved.
    """
    experiment = config.build()
    spec = experiment.tasks.spec  # loads the data: a missing file shows before anything is written
    parallel = Parallel(experiment.parallel, choose_devices(experiment.population, num_devices))
    for evaluator in experiment.evaluators:
        evaluator.check()
    _check_meta_parameters(experiment)

    run = RunDirectory(directory)
    run.create()
    start, same_evaluators = _compare_with_earlier_run(run, config, experiment)
    summary = run.read_summary()
    if summary and summary["meta_steps"] == start == experiment.steps and same_evaluators:
        say(f"{run.path}: this run is complete ({start} meta-steps)")
        return summary
    run.summary_json.unlink(missing_ok=True)  # of an end that is none any more
    run.write_config(config)

    say(
        f"{config.recipe}: {experiment.steps} meta-steps of {experiment.population} x {spec.length} examples on "
        f"{parallel.num_devices} {parallel.devices[0].platform} device(s) by {experiment.parallel}; "
        f"run directory {run.path}"
    )
    with closing(Checkpoints(run.checkpoints)) as checkpoints:
        state, seconds = _meta_train(experiment, parallel, run, checkpoints, start, config)
    head = summary_head(config, experiment, parallel.num_devices, seconds)
    return finish(run, config, experiment, state.params, head)


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
    with closing(TensorBoard(run.path, resume_step=head["meta_steps"])) as board:
        for evaluator in experiment.evaluators:
            started = time.monotonic()
            evaluation = evaluator.run(experiment.learner, params)
            evaluation.save(run.evaluations)
            board.evaluation(head["meta_steps"], evaluation)
            evaluations[evaluation.name] = evaluation.summary
            say(f"evaluated {evaluation.name} in {time.monotonic() - started:.0f} s")
        board.config(config.text, hyperparameters(config), evaluations)
        board.outcome(head["meta_steps"], _outcome(run, evaluations))
    summary = {**head, "evaluations": evaluations}
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
    """Tells the user what happens; results alone go to standard output."""
    print(message, file=sys.stderr, flush=True)


def _check_meta_parameters(experiment: Experiment) -> None:
    params = jax.eval_shape(lambda key: experiment.learner.init(key, experiment.tasks.spec), jax.random.key(0))
    if not jax.tree.leaves(params):
        raise UserError(
            f"learners.{type(experiment.learner).__name__} has no meta-parameters, so there is nothing to meta-train: "
            "choose another LEARNER, or use it as a baseline of an evaluator"
        )


def _compare_with_earlier_run(run: RunDirectory, config: Config, experiment: Experiment) -> tuple[int, bool]:
    """Compares with an earlier run in this directory; refuses another experiment.

    Returns:
      Its finished meta-steps, 0 for none, and whether its evaluators are those of today.
    """
    if not run.checkpoints.is_dir():
        return 0, True
    with closing(Checkpoints(run.checkpoints, read_only=True)) as checkpoints:
        start = checkpoints.newest()
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
) -> tuple[TrainState, float]:
    """The loop. Returns the final state, replicated, and the seconds spent over all runs of this directory."""
    data = parallel.replicate(experiment.tasks.load())
    state = parallel.replicate(jax.jit(lambda: init_state(experiment))())
    estimator = parallel.spread(jax.jit(lambda s, d: init_estimator(experiment, s.params, d))(state, data))
    seconds = 0.0
    best = {"step": 0, "loss": float("inf")}
    if start:
        (state, estimator), meta = checkpoints.restore(start, (state, estimator))
        seconds, best = meta["seconds"], meta["best"]
        say(f"resumed after {start} meta-steps")
    if start == experiment.steps:
        return state, seconds

    step = parallel.compile(build_meta_step(experiment, parallel.num_devices))
    state, estimator, data = (parallel.enter(tree) for tree in (state, estimator, data))
    names = [evaluator.name for evaluator in experiment.evaluators]
    started = time.monotonic() - seconds
    logged_at, logged_step = time.monotonic(), start

    def save(done: int, smoothed_loss: float) -> None:
        nonlocal best, seconds
        seconds = time.monotonic() - started
        if smoothed_loss < best["loss"]:
            best = {"step": done, "loss": smoothed_loss}
        board.flush()  # a resumed run does not write again what comes before its checkpoint
        # Copied: the next step reuses the buffers while the checkpoint is written in the background.
        whole = jax.tree.map(jnp.copy, (parallel.leave(state), parallel.leave(estimator, members=True)))
        checkpoints.save(done, whole, {"seconds": seconds, "best": best}, smoothed_loss)

    with (
        closing(MetricsFile(run.metrics, resume_step=start)) as metrics_file,
        closing(TensorBoard(run.path, resume_step=start)) as board,
        _progress_bar(start, experiment.steps) as bar,
        catch_interruption() as interruption,
    ):
        board.config(config.text, hyperparameters(config), names)
        for done in range(start + 1, experiment.steps + 1):
            state, estimator, metrics = step(state, estimator, data)
            last = done == experiment.steps
            asked_to_stop = interruption.signal_number is not None  # once: it may change at any time
            bar.update()
            if done % experiment.log_every == 0 or last:
                scalars = parallel.fetch({k: v for k, v in metrics.items() if k != "accuracy_curve"})
                scalars = {name: _number(value) for name, value in scalars.items()}
                metrics_file.write(done, scalars)
                now = time.monotonic()
                rate = (done - logged_step) * experiment.population / (now - logged_at)
                logged_at, logged_step = now, done
                board.scalars(done, {**scalars, "lifetimes_per_second": rate, "seconds": now - started})
                skipped = f", {scalars['skipped']} non-finite steps skipped" if scalars["skipped"] else ""
                bar.set_postfix_str(
                    f"loss {scalars['loss']:.3f} accuracy {scalars['accuracy']:.3f} {rate:.3g} lifetimes/s{skipped}",
                    refresh=False,
                )
            if done % experiment.max_non_finite == 0 or last:
                _stop_if_stuck(experiment, int(parallel.fetch(metrics["skipped_in_row"])), done, checkpoints)
            if done % experiment.plot_every == 0 or last:
                board.plots(done, parallel.fetch(metrics["accuracy_curve"]), parallel.fetch(state.params))
            if done % experiment.checkpoint_every == 0 or last or asked_to_stop:
                save(done, float(parallel.fetch(metrics["smoothed_loss"])))
            if asked_to_stop:
                _leave(interruption, done, experiment, run, checkpoints)
        checkpoints.wait()
    state = parallel.leave(state)
    if skipped := int(state.skipped):
        say(f"{skipped} of {experiment.steps} meta-gradients were not finite and were skipped")
    return state, seconds


def _progress_bar(start: int, steps: int) -> tqdm:
    """Redrawn where somebody watches, a line now and then in a log."""
    seconds = 0.5 if sys.stderr.isatty() else 30
    return tqdm(total=steps, initial=start, unit="step", dynamic_ncols=True, mininterval=seconds)


def _outcome(run: RunDirectory, evaluations: dict[str, Any]) -> dict[str, float]:
    """The values of `compared_by`, as far as there are any."""
    logged = read_metrics(run.metrics)[-1:]
    values = [entry[name] for entry in logged for name in ("loss", "accuracy")] or [None, None]
    values += [evaluation["cumulative_accuracy"]["mean"] for evaluation in evaluations.values()]
    return {tag: value for tag, value in zip(compared_by(evaluations), values, strict=True) if value is not None}


def hyperparameters(config: Config) -> dict[str, Any]:
    """What the runs of a sweep are told apart by: the public macros and the seed, one schema for all."""
    return {name: value for name, value in config.json["macros"].items() if isinstance(value, str | int | float)}


def _number(value: Any) -> float | int:
    number = value.item()
    return number if isinstance(number, int) else float(number)


def _stop_if_stuck(experiment: Experiment, in_row: int, done: int, checkpoints: Checkpoints) -> None:
    if in_row < experiment.max_non_finite:
        return
    checkpoints.wait()
    newest = checkpoints.newest()
    kept = f"the checkpoint of step {newest} is intact" if newest else "no checkpoint was written yet"
    raise UserError(
        f"the last {in_row} meta-gradients up to step {done} were not finite, so meta-training has stopped; {kept}: "
        "lower the learning rate or clip the meta-gradient (optax.clip_by_global_norm), or raise train.max_non_finite"
    )


def _leave(
    interruption: Interruption, done: int, experiment: Experiment, run: RunDirectory, checkpoints: Checkpoints
) -> None:
    checkpoints.wait()
    assert interruption.signal_number is not None
    raise Interrupted(
        f"stopped by {interruption.name} after {done} of {experiment.steps} meta-steps; all is saved in {run.path}: "
        "run the same command again to go on",
        interruption.signal_number,
    )
