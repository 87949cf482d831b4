"""Introspection: what a learned algorithm does and which known one it is like, now and over meta-training.

It is a meta-test with the evaluators of evaluators/introspection.gin, so that tables, reports and TensorBoard show it
as they show any. Those with an `interim` also see the earlier checkpoints of the run, as far as they were kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from vsml.evaluation.telling import listening
from vsml.experiment import Experiment
from vsml.hardware import products_in
from vsml.runs import names, sources
from vsml.runs.directory import RunDirectory
from vsml.runs.labels import label, place
from vsml.runs.saved import Which, whole_steps
from vsml.training.display import display, tell_evaluation
from vsml.training.interim import InterimEvaluations
from vsml.training.meta_test import elsewhere, evaluate, fitting, prepared
from vsml.training.writers import TensorBoard

EVALUATORS = "evaluators/introspection.gin"


def introspect(
    source: Path, overrides: Sequence[str] = (), checkpoint: Which = "newest", out: Path | None = None
) -> tuple[dict[str, Any], Path]:
    """Looks into the meta-parameters of a run, of a file of `vsml export`, or of `pretrained:NAME`.

    Args:
      source: a run directory, a file, or `pretrained:NAME`, which needs `out`.
      overrides: gin files and KEY=VALUE on top of the run's own config and of evaluators/introspection.gin.
      checkpoint: which one of a run.
      out: another directory for the outcome.

    Returns:
      The content of the summary, and the directory of the outcome, laid out as that of a run: `introspection/` of the
      run or, of anything but its last checkpoint without overrides, `introspection/LABEL/`; FILE.introspection/ of
      FILE.npz.

    Raises:
      UserError: as by `meta_test`.
    """
    saved = sources.of_path(source, checkpoint)
    config, experiment, params = prepared(source, saved, [EVALUATORS, *overrides])
    steps = whole_steps(RunDirectory(source).checkpoints) if source.is_dir() else [saved.about["step"]]
    run = RunDirectory(
        source.with_suffix(f".{names.INTROSPECTION}") if source.is_file() else source / names.INTROSPECTION
    )
    if out is not None:
        run = elsewhere(out)
    elif overrides or saved.about["step"] != steps[-1]:
        run = RunDirectory(place(run.path, label(overrides, saved.about["step"]), config.text))
    earlier = [step for step in steps if step < saved.about["step"]]
    on_the_way = lambda: _over_meta_training(source, earlier, experiment, run)  # noqa: E731
    return evaluate(source, saved, config, experiment, params, run, on_the_way), run.path


def _over_meta_training(source: Path, steps: Sequence[int], experiment: Experiment, run: RunDirectory) -> None:
    """Writes what is found of earlier checkpoints as it is written during meta-training."""
    run.interim.unlink(missing_ok=True)
    if not steps or not any(evaluator.interim() for evaluator in experiment.evaluators):
        return
    with (
        closing(TensorBoard(run.path, resume_step=-1)) as board,
        closing(InterimEvaluations(replace(experiment, evaluate_every=1), run.interim, board, start=0)) as inside,
        products_in(experiment.precision),
        listening(tell_evaluation),
        closing(display),
    ):
        for step in steps:
            display.show(f"evaluating what was learned in {step} meta-steps", at_once=True)
            inside.run(step, fitting(experiment, sources.of_run(source, step), source))
