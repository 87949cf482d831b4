"""Meta-test: runs evaluators on a frozen V_M, at the end of meta-training, or later for a run or an exported file.

It reads only the saved meta-parameters, not the data of meta-training, nor the state of its optimizer and estimator.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from vsml import config as configs
from vsml.config import Config
from vsml.cost import count
from vsml.errors import UserError
from vsml.evaluation.base import Evaluation, Evaluator
from vsml.evaluation.data import facts_of_data, notes_on_repeats
from vsml.evaluation.telling import evaluating, listening
from vsml.experiment import Experiment
from vsml.hardware import products_in
from vsml.runs import names, sources
from vsml.runs.directory import RunDirectory, peak_memory
from vsml.runs.history import fingerprints
from vsml.runs.labels import label, place
from vsml.runs.meta_parameters import MetaParameters
from vsml.runs.results import Run, read_metrics
from vsml.runs.saved import Which
from vsml.tasks.base import TaskDistribution
from vsml.tasks.held_out import HeldOut, NoShare
from vsml.training.display import display, tell_evaluation
from vsml.training.distributed import say
from vsml.training.dry_run import shapes_of_learner
from vsml.types import Params

FOLLOWS_TASKS = "evaluators/held_out.gin"


def meta_test(
    source: Path, overrides: Sequence[str] = (), checkpoint: Which = "newest", out: Path | None = None
) -> dict[str, Any]:
    """Evaluates the meta-parameters of a run, of a file of `vsml export`, or of `pretrained:NAME`.

    For a finished run, its last checkpoint and no overrides, this repeats the evaluation at the end of meta-training
    and rewrites the run's `summary.json`. Any other evaluation of a run goes to `evaluations/LABEL/` (see `labels`),
    with a `summary.json` of its own. Evaluations of FILE.npz go to FILE.evaluations/ beside it in the same way.

    Args:
      source: a run directory, a file, or `pretrained:NAME`, which needs `out`.
      overrides: gin files and KEY=VALUE on top of the run's own config; they may change tasks and evaluators, and the
        learner as far as it takes the same meta-parameters.
      checkpoint: which checkpoint of a run.
      out: another directory for the results.

    Returns:
      The content of the summary.

    Raises:
      UserError: no such run, checkpoint or file, no evaluators, or meta-parameters that do not fit the learner.
    """
    saved = sources.of_path(source, checkpoint)
    config, experiment, params = prepared(source, saved, overrides)
    run = RunDirectory(source.with_suffix(".evaluations") if source.is_file() else source)
    if out is not None:
        run = elsewhere(out)
    elif overrides or saved.about["step"] != experiment.steps:
        run = RunDirectory(place(run.evaluations, label(overrides, saved.about["step"]), config.text))
    return evaluate(source, saved, config, experiment, params, run)


def prepared(source: Path, saved: MetaParameters, overrides: Sequence[str]) -> tuple[Config, Experiment, Params]:
    """Config, experiment and V_M of an evaluation with overrides. Raises `UserError` where these do not fit."""
    try:
        config = _config(source, saved, overrides)
        experiment = config.build()
    except UserError as error:
        if not isinstance(cause := error.__cause__, NoShare) or cause.share is not None:
            raise
        raise UserError(
            f"{source}: meta-training uses a mixture of {', '.join(cause.names)}: name other data, as in `--on "
            f"tasks/wine.gin`, or one of the mixture, as in tasks.HeldOut.share={cause.names[0]}"
        ) from None
    if not experiment.evaluators:
        evaluators = FOLLOWS_TASKS if len(saved.about["specs"]) == 1 else "evaluators/scoreboard_alone.gin"
        raise UserError(
            f"{source}: its config names no evaluators: name data, as in `--on tasks/wine.gin`, or a file of "
            f"evaluators, as in `{evaluators}`"
        )
    for evaluator in experiment.evaluators:
        evaluator.check()
    _check_used(source, saved, overrides, config)
    return config, experiment, fitting(experiment, saved, source)


def elsewhere(out: Path) -> RunDirectory:
    """Where `--out` says. Raises `UserError` where a run lives there."""
    run = RunDirectory(out)
    if run.checkpoints.exists():
        raise UserError(f"--out {out}: this is the directory of a run: choose another one")
    return run


def evaluate(
    source: Path,
    saved: MetaParameters,
    config: Config,
    experiment: Experiment,
    params: Params,
    run: RunDirectory,
    before: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Evaluates what is prepared, after what is to be done `before`; returns the content of the summary."""
    run.create()
    if run.path != source.absolute():
        run.write_config(config)
    prints = _fingerprints(experiment.evaluators)
    _refuse_other_data(run, prints)
    for note in notes_on_repeats((), experiment.evaluators):
        say(note)
    before()
    head = summary_head(config, experiment, len(jax.devices()), saved.about["step"], saved.about)
    trained = [share.tasks for share in _config(source, saved, ()).build().shares]
    summary = finish(run, config, experiment, params, head, trained, prints)
    say(f"saved in {os.path.relpath(run.path)}")
    return summary


def summary_head(
    config: Config, experiment: Experiment, num_devices: int, step: int, meta: Mapping[str, Any]
) -> dict[str, Any]:
    """The part of `summary.json` that is known without any evaluation; `meta` is the JSON of a checkpoint."""
    params, learned = shapes_of_learner(experiment.learner_in_use, sources.task_specs(meta))
    head = {
        "recipe": config.recipe,
        "seed": experiment.seed,
        "meta_steps": step,
        "seconds": round(meta["seconds"], 1),
        "devices": num_devices,
        "num_meta_parameters": count(params),
        "num_learned_variables": count(learned),
    }
    return {**head, "started_from": meta["started_from"]} if meta["started_from"] else head


def finish(
    run: RunDirectory,
    config: Config,
    experiment: Experiment,
    params: Params,
    head: dict[str, Any],
    trained: Sequence[TaskDistribution] | None = None,
    prints: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Runs the evaluators with V_M frozen and writes `summary.json`, curves and TensorBoard's part of it.

    Args:
      run: where to write.
      config: of the experiment.
      experiment: what was meta-trained, and its evaluators.
      params: V_M.
      head: the rest of `summary.json`.
      trained: the tasks of meta-training, where they are not those of the experiment.
      prints: digests of the evaluators' data by their names, where they are known already.
    """
    trained = [share.tasks for share in experiment.shares] if trained is None else trained
    evaluations: list[Evaluation] = []
    prints = _fingerprints(experiment.evaluators) if prints is None else prints
    with products_in(experiment.precision), listening(tell_evaluation), closing(display):
        for evaluator in experiment.evaluators:
            started = time.monotonic()
            display.show(f"evaluating {evaluator.name}", at_once=True)
            with evaluating(evaluator.name):
                evaluation = evaluator.run(experiment.learner_in_use, params)
            if isinstance(tasks := getattr(evaluator, "tasks", None), TaskDistribution):
                known = {*evaluation.facts, *evaluation.scores}
                facts = {name: fact for name, fact in facts_of_data(tasks, trained).items() if name not in known}
                evaluation = replace(evaluation, facts={**evaluation.facts, **facts})
            evaluation.save(run.evaluations)
            evaluations.append(evaluation)
            display.close()
            say(f"evaluated {evaluation.name} in {time.monotonic() - started:.0f} s")
    summary = {
        **head,
        "peak_memory_bytes": peak_memory(),
        "evaluations": {
            evaluation.name: {**evaluation.summary, **({"fingerprint": digest} if digest else {})}
            for evaluation in evaluations
            for digest in (prints.get(evaluation.name),)
        },
    }
    _tell_tensorboard(run, config, head["meta_steps"], evaluations)
    run.write_json(names.SUMMARY, summary)
    return summary


def _tell_tensorboard(run: RunDirectory, config: Config, step: int, evaluations: Sequence[Evaluation]) -> None:
    from vsml.training.writers import TensorBoard, compared_by  # takes half a second: not before the evaluators

    summaries = {evaluation.name: evaluation.summary for evaluation in evaluations}
    with closing(TensorBoard(run.path, resume_step=step)) as board:
        for evaluation in evaluations:
            board.evaluation(step, evaluation)
        board.config(config.text, run.hyperparameters(config), compared_by(read_metrics(run.metrics), summaries))


def _config(source: Path, saved: MetaParameters, overrides: Sequence[str]) -> Config:
    """The config that rebuilds the learner, with overrides on top; its recipe is that of meta-training.

    Where overrides replace the tasks and name no evaluators, evaluators follow the tasks: the run's own where all of
    them are on the tasks of meta-training, otherwise those of evaluators/held_out.gin.
    """
    with sources.config_file(source, saved) as recipe:
        exchanged = configs.macros_set_by(overrides) & {"TASKS", "EVALUATORS"} == {"TASKS"}
        try:
            config = configs.load(str(recipe), overrides)
            follows = not exchanged or _on_its_tasks(config.build())
        except UserError:
            if not exchanged:
                raise
            follows = False
        if not follows:
            config = configs.load(str(recipe), [FOLLOWS_TASKS, *overrides])
    return replace(config, recipe=saved.about["recipe"])


def _on_its_tasks(experiment: Experiment) -> bool:
    """Whether all evaluators are on the held-out part of the tasks of meta-training."""
    tasks = [getattr(evaluator, "tasks", None) for evaluator in experiment.evaluators]
    return bool(tasks) and all(isinstance(each, HeldOut) and each.tasks == experiment.tasks for each in tasks)


def _check_used(source: Path, saved: MetaParameters, overrides: Sequence[str], config: Config) -> None:
    """Raises `UserError` for an override that changes the config, but nothing of what is evaluated."""
    evaluated = _evaluated(config) if overrides else None
    for index, word in enumerate(overrides):
        try:
            without = _config(source, saved, [*overrides[:index], *overrides[index + 1 :]])
            ineffective = config.differences(without) and evaluated == _evaluated(without)
        except UserError:
            continue  # it is needed
        if ineffective:
            raise UserError(
                f"{word}: no evaluator uses it: it would change only meta-training; leave it out"
                + (
                    "; the macro TEST_LENGTH is the length of lifetimes in evaluators/held_out.gin"
                    if word.startswith("LENGTH")
                    else ""
                )
            )


def _evaluated(config: Config) -> Any:
    """What the results of a meta-test depend on, besides V_M."""
    described = config.json["train"]
    return config.build().evaluators, described["deployed"] or described["learner"], described["precision"]


def _fingerprints(evaluators: Sequence[Evaluator]) -> dict[str, str]:
    """Name of an evaluator -> digest of the arrays that its tasks are drawn from."""
    tasks = {each.name: own for each in evaluators if isinstance(own := getattr(each, "tasks", None), TaskDistribution)}
    return fingerprints(list(tasks), [each.load() for each in tasks.values()])


def _refuse_other_data(run: RunDirectory, prints: Mapping[str, str]) -> None:
    """Raises `UserError` where an existing evaluation would be replaced by one on other data."""
    there = (Run(run.path, run.path.name).summary or {"evaluations": {}})["evaluations"]
    for name, digest in prints.items():
        if there.get(name, {}).get("fingerprint", digest) != digest:
            raise UserError(
                f"{run.path}: the data of {name} are not those of the existing evaluation (they were rewritten, "
                "or others are found first): restore them, or keep both with --out"
            )


def fitting(experiment: Experiment, saved: MetaParameters, source: Path) -> Params:
    """The meta-parameters in the form that the learner wants. Raises `UserError` where they do not fit it."""
    specs = {sources.task_specs(saved.about)[0]: "the learner"}
    for evaluator in experiment.evaluators:
        if isinstance(tasks := getattr(evaluator, "tasks", None), TaskDistribution):
            specs.setdefault(tasks.spec, f"the learner on the tasks of the evaluator {evaluator.name}")
    wanted = {spec: experiment.learner_in_use.params_shapes(spec) for spec in specs}
    for spec, who in specs.items():
        if mismatch := saved.mismatch(wanted[spec]):
            raise UserError(
                f"{source}: its meta-parameters do not fit {who} ({mismatch}): change only settings that keep the "
                "shapes of V_M"
            )
    return saved.fill(wanted[sources.task_specs(saved.about)[0]])
