"""What the numbers of a run say: tables of its evaluations."""

from vsml.analysis.tables import evaluation_table

__all__ = ["evaluation_table"]
