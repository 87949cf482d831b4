"""What runs have measured, as tables, pictures and reports."""

from vsml.analysis.tables import evaluation_table

__all__ = ["evaluation_table"]
