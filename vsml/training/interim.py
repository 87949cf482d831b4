"""Evaluations while meta-training is under way: how V_M generalises, over meta-steps.

Nothing of meta-training depends on them: they read a copy of V_M, and evaluators have seeds of their own. One process
evaluates for all, on its own devices, while the others wait for it in the next meta-step.
"""

from __future__ import annotations

from vsml.experiment import Experiment
from vsml.training.writers import MetricsFile, TensorBoard
from vsml.types import Params


class InterimEvaluations:
    """Runs the evaluators of an experiment every `train.evaluate_every` meta-steps.

    The last meta-step is left out: what ends a run evaluates it.
    """

    def __init__(self, experiment: Experiment, file: MetricsFile, board: TensorBoard):
        """Writes to `evaluations.jsonl` and to TensorBoard's `eval/`."""
        self._learner, self._every, self._steps = experiment.learner, experiment.evaluate_every, experiment.steps
        self._evaluators = [interim for evaluator in experiment.evaluators if (interim := evaluator.interim())]
        self._file, self._board = file, board

    def due(self, done: int) -> bool:
        """Whether V_M is to be evaluated after so many meta-steps."""
        if self._every is None or not self._evaluators:
            return False
        return 0 < done < self._steps and done % self._every == 0

    def run(self, done: int, params: Params) -> None:
        """Evaluates V_M, given as host arrays."""
        evaluations = {}
        for evaluator in self._evaluators:
            evaluation = evaluator.run(self._learner, params)
            evaluations[evaluation.name] = evaluation.summary
            self._board.scores(done, evaluation)
        self._board.flush()
        self._file.write(done, {"evaluations": evaluations})
