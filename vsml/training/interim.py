"""Evaluations while meta-training is under way: how V_M generalises, over meta-steps.

Meta-training does not depend on them: they read a copy of V_M, and evaluators have seeds of their own. One process
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

    The last meta-step is left out: it is evaluated at the end of the run.
    """

    def __init__(self, experiment: Experiment, path: Path, board: TensorBoard, start: int):
        """Continues after `start` meta-steps; an evaluation that is due at `start` is repeated.

        Args:
          experiment: the experiment, with its evaluators.
          path: of `evaluations.jsonl`; its entries from `start` on are dropped. Without evaluators it is left alone.
          board: gets the scores as well.
          start: meta-steps that are done.
        """
        self._learner, self._every = experiment.learner_in_use, experiment.evaluate_every
        self._steps = experiment.steps
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
