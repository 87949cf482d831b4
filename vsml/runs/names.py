"""The names of the files that runs and sweeps write."""

from __future__ import annotations

CONFIG_GIN, OPERATIVE_CONFIG, CONFIG_JSON = "config.gin", "operative_config.gin", "config.json"
ENVIRONMENT, SUMMARY, METRICS, INTERIM = "environment.json", "summary.json", "metrics.jsonl", "evaluations.jsonl"
CHECKPOINTS, EVALUATIONS, REPORT = "checkpoints", "evaluations", "report"
INTROSPECTION = "introspection"
"""In a run directory, and laid out as one."""
HISTORY = "history.jsonl"
LOCK = ".lock"
"""Exists while a process trains in the directory."""
SWEEP = "sweep.json"
"""In the directory of a sweep."""
POINT, FAILURE, LOG = "point.json", "failure.txt", "output.log"
"""In the directory of a run that is a point of a sweep."""

PARAMS, STATE, META = "params", "state", "meta"
"""The items of a checkpoint, which are folders."""
PARAMS_FILE = "params.npz"
META_FILE = "metadata"
"""What Orbax calls the one file of a JSON item."""
EXPORTED = ".npz"
"""Suffix of a file of exported meta-parameters."""
