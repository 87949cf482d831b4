"""Every recipe says what it is for, and runs: parsed, built, meta-trained for two tiny steps, evaluated."""

from __future__ import annotations

import math
import os
import re
from functools import partial
from pathlib import Path

import jax
import pytest
from runs import call, metrics, summary

from vsml import config as configs
from vsml.config import gin_root

RECIPES = sorted(path.relative_to(gin_root()).as_posix() for path in (gin_root() / "recipes").rglob("*.gin"))
MACROS = {
    *("LEARNER", "CELL", "SHARING", "SPARSITY", "META_OPTIMIZER", "OPTIMIZER", "OBJECTIVE", "TASKS"),
    *("STEPS", "SEED", "POPULATION", "LENGTH", "LEARNING_RATE"),
}
"""The public ones: the same in every recipe."""
HEADER = ("Shows", "Expected", "Hardware", "Command", "Overrides")


def lines_of_header(recipe: str) -> list[str]:
    lines = (gin_root() / recipe).read_text().splitlines()
    return lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]


def header(recipe: str) -> dict[str, str]:
    """The fields of a recipe's header, each on as many lines as it takes."""
    fields: dict[str, str] = {}
    for line in lines_of_header(recipe):
        named = re.match(r"# ([A-Z][a-z]+): +(.+)", line)
        if named:
            fields[named[1]] = named[2]
        elif fields:
            fields[list(fields)[-1]] += " " + line.removeprefix("#").strip()
    return fields


@pytest.mark.parametrize("recipe", RECIPES)
def test_its_header_says_what_one_wants_to_know(recipe: str):
    first, *_ = lines_of_header(recipe)
    assert first.startswith("# ")
    assert first.endswith("."), "one sentence, which `vsml recipes` shows"
    fields = header(recipe)
    assert tuple(fields) == HEADER
    for name, text in fields.items():
        assert len(text) > 10, name
        assert "@@" not in text, f"{name} is not filled in"
    assert fields["Command"] == f"vsml train {recipe}"


@pytest.mark.parametrize("optimizer", [None, *(path.name for path in (gin_root() / "optimizers").glob("*.gin"))])
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_learning_rate_is_a_macro_whatever_the_optimizer(recipe: str, optimizer: str | None):
    chosen = [f"optimizers/{optimizer}"] if optimizer else []
    changed = configs.load(recipe, [*chosen, "LEARNING_RATE=0.125"])
    differences = configs.load(recipe, chosen).differences(changed)
    assert [new for _, _, new in differences] == [0.125]


@pytest.mark.parametrize("recipe", RECIPES)
def test_it_fits_on_a_screen(recipe: str):
    lines = (gin_root() / recipe).read_text().splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 130


@pytest.mark.parametrize("recipe", RECIPES)
def test_it_sets_the_public_macros(recipe: str):
    # The learner of a recipe may have no cells, and its tasks a length of their own.
    assert set(configs.load(recipe).json["macros"]) >= MACROS - {"CELL", "SHARING", "SPARSITY", "LENGTH"}


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_overrides_that_its_header_names_can_be_used_together_as_named(recipe: str):
    for together in header(recipe)["Overrides"].split(";"):
        words = [word for word in together.split() if "=" in word or word.endswith(".gin")]
        assert words, together
        changed = configs.load(recipe, words)
        experiment = configs.load(recipe, [*words, *noise_for_data(changed)]).build()
        for spec in experiment.specs:
            params = jax.eval_shape(partial(experiment.learner.init, spec=spec), KEY)
            jax.eval_shape(partial(experiment.learner.initial_state, spec=spec), params, KEY)


KEY = jax.random.key(0)
SMALL = {
    "STEPS": "2",
    "POPULATION": "4",
    "LENGTH": "3",
    "evaluators.OnlineAccuracy.lifetimes": "2",
    "evaluators.BesideBackprop.lifetimes": "2",
    "evaluators.CloneFit.lifetimes": "2",
    "evaluators.Baselines.hidden": "[0]",
    "evaluators.Baselines.sgd_learning_rates": "[0.01]",
    "evaluators.Baselines.adam_learning_rates": "[0.001]",
    "evaluators.Baselines.rls_features": "[4]",
    "evaluators.Baselines.ridges": "[1.0]",
}
PUBLISHED = ("MNIST", "FashionMNIST", "KMNIST", "EMNIST", "CIFAR10", "SVHN", "Omniglot")


def sources_of(config: configs.Config) -> set[str]:
    return {node.part.name for node in config.nodes if node.part.name.startswith("sources.")}


def small(recipe: str) -> list[str]:
    """Overrides that make a recipe tiny, as far as it has what they name."""
    config = configs.load(recipe)
    bound = {binding.name: binding for binding in config.bindings}
    parts = {node.part.name for node in config.nodes}
    known = {*parts, *config.json["macros"]}
    overrides = [f"{k}={v}" for k, v in SMALL.items() if (k.rpartition(".")[0] or k) in known]
    lengths = [
        name
        for name in bound
        if name == "TEST_LENGTH" or ("/" in name and name.endswith(("Classification.length", "HeldOut.length")))
    ]
    fresh = ["train.start_from=None"] if "train.start_from" in bound else []
    every = ["POPULATION=8"] if "tasks.Mixture" in parts else []  # one for each member
    return [*overrides, *fresh, *every, *(f"{name}=10" for name in lengths)]


def noise_for_data(config: configs.Config) -> list[str]:
    """Overrides that put noise in the place of data that would have to be downloaded, of the same shape."""
    needed = sources_of(config) & {f"sources.{name}" for name in PUBLISHED}
    if not needed:
        return []
    bound = [
        b.name for b in config.bindings if b.name.endswith(("tasks.Classification.source", "tasks.FewShot.source"))
    ]
    return [*(f"{name}=@sources.Random" for name in bound), "sources.Random.num_examples=40"]


def check_run(directory: Path, recipe: str, arguments: list[str]) -> None:
    content = summary(directory)
    assert (content["recipe"], content["meta_steps"]) == (recipe, 2)
    (entry,) = metrics(directory)
    assert entry["step"] == 2
    assert entry["skipped"] == 0
    assert entry["update_norm"] > 0
    assert math.isfinite(entry["loss"])
    evaluators = configs.load(recipe, arguments).build().evaluators
    assert list(content["evaluations"]) == [evaluator.name for evaluator in evaluators]
    for evaluator in evaluators:
        evaluation = content["evaluations"][evaluator.name]
        assert evaluation[evaluation["headline"]]["mean"] <= 1
        if getattr(evaluator, "baselines", None) is not None:
            rivals = ["best_sgd", "best_adam", "nearest_class_mean", "nearest_neighbour", "best_rls"]
            assert list(evaluation["baselines"]) == rivals


def real_data(recipe: str) -> list[str] | None:
    """Overrides with which a recipe runs on the data at hand, None where there is none: a test split will do."""
    folder = Path(os.environ.get("VSML_DATA_DIR", "")) / "mnist"
    config = configs.load(recipe)
    if sources_of(config) != {"sources.MNIST"} or not (folder / "t10k-images-idx3-ubyte.gz").is_file():
        return None
    small = any("test" in str(b.value) for b in config.bindings if b.name.endswith("sources.MNIST.split"))
    whole = small or (folder / "train-images-idx3-ubyte.gz").is_file()
    return [] if whole else ["sources.MNIST.split=test[:8000]"]


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("recipe", RECIPES)
def test_it_runs(recipe: str, tmp_path: Path, capfd):
    data = real_data(recipe)
    arguments = [*small(recipe), *(noise_for_data(configs.load(recipe)) if data is None else data)]
    outcome = call(capfd, "train", recipe, *arguments, "--run_dir", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    check_run(tmp_path / "run", recipe, arguments)
    if "paper/from_scratch" in recipe:
        assert summary(tmp_path / "run")["num_learned_variables"] == 250_880


def test_there_are_recipes():
    assert {"recipes/quickstart.gin", "recipes/paper/from_scratch_es.gin"} <= set(RECIPES)
