"""How a population is shared out to the distributions of a mixture."""

from __future__ import annotations

import pytest
from noise_tasks import NoiseTasks

from vsml.errors import UserError
from vsml.tasks import Mixture

TASKS = (NoiseTasks(length=2), NoiseTasks(length=3), NoiseTasks(length=4))


@pytest.mark.parametrize(
    ("shares", "population", "members"),
    [
        ((), 6, [2, 2, 2]),
        ((), 7, [3, 2, 2]),
        ((1.0, 2.0, 1.0), 8, [2, 4, 2]),
        ((0.5, 0.3, 0.2), 10, [5, 3, 2]),
        ((1000.0, 1.0, 1.0), 5, [3, 1, 1]),  # nobody is left out
    ],
)
def test_the_population_is_shared_by_shares(shares, population, members):
    shared = Mixture(TASKS, ("a", "b", "c"), shares).share_out(population)
    assert [share.members for share in shared] == members
    assert [share.name for share in shared] == ["a", "b", "c"]
    assert tuple(share.tasks for share in shared) == TASKS


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tasks": (), "names": ()}, "tasks is empty"),
        ({"names": ("a", "b")}, r"names is \['a', 'b'\] for 3 distributions"),
        ({"names": ("a", "b", "a")}, "give each its own name"),
        ({"names": ("a", "b", "c/d")}, "has 'c/d'"),
        ({"shares": (1.0, 2.0)}, r"shares is \[1.0, 2.0\] for 3"),
        ({"shares": (1.0, 2.0, 0.0)}, "one number above 0"),
    ],
)
def test_what_does_not_fit_is_refused(fields, message):
    with pytest.raises(UserError, match=message):
        Mixture(**{"tasks": TASKS, "names": ("a", "b", "c"), **fields})


def test_one_distribution_has_the_whole_population():
    assert TASKS[0].share_out(5) == (("", TASKS[0], 5),)


def test_too_small_a_population_is_refused():
    with pytest.raises(UserError, match="set POPULATION=3 or more"):
        Mixture(TASKS, ("a", "b", "c")).share_out(2)
