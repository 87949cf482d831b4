"""Plots of many rows with long names have room for what they show."""

from __future__ import annotations

import warnings

import pytest

from vsml.analysis import plots


@pytest.mark.parametrize("rows", [2, 27])
def test_many_rows_at_one_place_of_the_axis(rows: int):
    names = [f"learner=a very long name of a row number {row}" for row in range(rows)]
    points = {name: [plots.Scored(8.0, name, [0.1 * row, 0.2])] for row, name in enumerate(names)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns where nothing is left of the axes
        svg = plots.scale(points, ("|V_L| / |V_M|", "accuracy"), joined=False, limits=(0.0, 1.0))
    assert f"+ {rows - 1} more" in svg
    assert svg.count(names[-1]) >= 1
