"""Sweeps: a declared set of runs, one run of it, all of them on this machine.

load(file, words) -> Sweep -> .points[index] -> .recipe, .overrides, .run_directory(sweep_directory)
run_point(sweep, index, directory)      one of them, in this process
run_all(sweep, directory, jobs)         all of them, in processes of their own
launch(sweep, directory, launcher)      all of them, elsewhere
"""

from __future__ import annotations

from vsml.sweep.local import Failed, run_all
from vsml.sweep.points import Point, Refused, Sweep, load
from vsml.sweep.runs import launch, run_point, show

__all__ = ["Failed", "Point", "Refused", "Sweep", "launch", "load", "run_all", "run_point", "show"]
