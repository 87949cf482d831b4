"""Evaluations while meta-training is under way: how V_M generalises, over meta-steps.

Nothing of meta-training depends on them: they read a copy of V_M, and evaluators have seeds of their own. One process
evaluates for all, on its own devices, while the others wait for it in the next meta-step.
"""

from __future__ import annotations

from pathlib import Path

from vsml.evaluation.telling import evaluating
from vsml.experiment import Experiment
from vsml.training.writers import MetricsFile, TensorBoard
from vsml.types import Params


class InterimEvaluations:
    """Runs the evaluators of an experiment every `train.evaluate_every` meta-steps.

    The last meta-step is left out: what ends a run evaluates it.
    """

    def __init__(self, experiment: Experiment, path: Path, board: TensorBoard, start: int):
        """Goes on after `start` meta-steps; an evaluation that is due there is made again.

        Args:
          experiment: whose evaluators run.
          path: of `evaluations.jsonl`, of which what came later is dropped; without evaluations it is left alone.
          board: which is told as well.
          start: meta-steps that are done.
        """
        self._learner, self._every, self._steps = experiment.learner, experiment.evaluate_every, experiment.steps
        self._evaluators = [interim for evaluator in experiment.evaluators if (interim := evaluator.interim())]
        self._board = board
        self._file = MetricsFile(path, resume_step=start - 1) if self._every and self._evaluators else None

    def due(self, done: int) -> bool:
        """Whether V_M is to be evaluated after so many meta-steps."""
        return bool(self._file and self._every and 0 < done < self._steps and done % self._every == 0)

    def run(self, done: int, params: Params) -> None:
        """Evaluates V_M, given as host arrays."""
        evaluations = {}
        for evaluator in self._evaluators:
            with evaluating(evaluator.name):
                evaluation = evaluator.run(self._learner, params)
            evaluations[evaluation.name] = evaluation.summary
            self._board.scores(done, evaluation)
        self._board.flush()
        if self._file:
            self._file.write(done, {"evaluations": evaluations})

    def close(self) -> None:
        """Closes the file."""
        if self._file:
            self._file.close()
