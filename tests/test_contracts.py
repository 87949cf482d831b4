"""Every axis has a contract with an example that runs as it is printed."""

from __future__ import annotations

import doctest
import importlib

import pytest

from vsml.config import AXES


def examples_of(axis: str) -> list[doctest.DocTest]:
    """The examples of an axis's base class, and of the module that holds it."""
    module, _, name = AXES[axis][1].rpartition(".")
    contract = importlib.import_module(module)
    finder = doctest.DocTestFinder(recurse=False)
    found = [*finder.find(contract, module), *finder.find(getattr(contract, name), name, contract)]
    return [example for example in found if example.examples]


@pytest.mark.parametrize("axis", AXES)
def test_the_example_of_a_contract_runs(axis: str):
    examples = examples_of(axis)
    assert examples, "the contract has no example"
    said: list[str] = []
    runner = doctest.DocTestRunner(verbose=False)
    for example in examples:
        runner.run(example, out=said.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)
