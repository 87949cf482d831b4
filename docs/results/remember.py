"""Figures and tables of remember.md: bodies and synapses that learn to remember, and what their rule is like."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from drawing import WIDTH, as_list, evaluation, markdown, means, over_seeds, plus_minus, run_in, score, short
from matplotlib.figure import Figure
from sklearn.linear_model import Ridge

import vsml
from vsml import config
from vsml.analysis.plots import COLOURS, GREY, STYLES, as_svg, tidy
from vsml.analysis.statistics import estimate
from vsml.evaluation import Recalled
from vsml.hardware import compiler_options
from vsml.learned import LearnedAlgorithm
from vsml.learners import AttentionMemory
from vsml.learners.base import Learner
from vsml.learners.unroll import unroll
from vsml.runs.results import Run, read_results
from vsml.tasks.mixture import Mixture
from vsml.tasks.remember import Remember
from vsml.tasks.sources import Digits
from vsml.types import Array, Key, Params

Stream = Callable[[Learner, Remember, Params, Key], Any]

SEEDS = (0, 1, 2)
ALONE = True
"""Made only where it is named: it takes hours."""
SMALLEST = {
    "sweep": ("STEPS=1", "evaluators.Recalled.lifetimes=2", "axes.difficulty={'4 patterns': []}"),
    "sweeps/remember_delays.gin": ("STEPS=1", "evaluators.Recalled.lifetimes=2"),
    "sweeps/remember_beside_classes.gin": ("STEPS=1", "LENGTH=3", "evaluators.OnlineAccuracy.lifetimes=2"),
    "train": ("STEPS=1", "evaluators.Recalled.lifetimes=2"),
    "eval": ("evaluators.Recalled.lifetimes=2", "evaluators.Recalled.pictured=4"),
    "tasks.Classification.batch=1": ("evaluators.OnlineAccuracy.lifetimes=2", "evaluators.Baselines.hidden=[0]"),
}

NAME = "random_snippets"
"""Of the evaluation of all sweeps."""
CHANCE = 0.5
LOADS = {"2 patterns": 2, "4 patterns": 4, "8 patterns": 8}
DELAYS = {"4 patterns": 0, "4 patterns, then 4 others": 4, "4 patterns, then 16 others": 16}
KNOBS = {"patterns": LOADS, "others seen since": DELAYS}
SYNAPSES = {"learned": COLOURS[0], "frozen": COLOURS[1]}
RIVALS = ("outer product", "attention", "mean of the stream")
"""Lines in every panel."""
SAYERS = (
    ("visible", "remember", {"network": "visible", "synapses": "learned"}),
    ("visible, frozen", "remember", {"network": "visible", "synapses": "frozen"}),
    ("visible, two ways", "remember", {"network": "visible, two ways", "synapses": "learned"}),
    ("visible, full", "remember_gradients", {"gradient": "full"}),
    ("visible, read_only", "remember_gradients", {"gradient": "read_only"}),
    ("Hebb", "remember_rivals", {"learner": "Hebb"}),
    ("attention", "remember_rivals", {"learner": "attention"}),
)
SHOWN = ("4 patterns", "4 patterns, then 16 others")
"""Whose answers are compared with majorities: label, sweep, labels there; and the difficulties."""
MANY = 16
"""Patterns of which the first and the last are compared."""
STREAMS = 256
"""Lifetimes in which the rule is looked at."""
RULES = {
    "Hebb": "Hebb",
    "Oja": "Oja",
    "delta rule": "the delta rule",
    "signs": "any function of the two numbers seen",
    "linear": "that, what the target hears, and the synapse itself",
}
FURTHER = {
    "as_trained": "4 patterns of 16 numbers, as in meta-training",
    "8_patterns": "8 patterns",
    "16_patterns": "16 patterns",
    "after_16_others": "16 others seen in between",
    "after_64_others": "64 others seen in between",
    "after_64_steps_of_nothing": "64 steps of nothing in between",
    "size_32": "32 neurons, patterns of 32",
    "size_64": "64 neurons, patterns of 64",
    "size_64_alike": "the same, with a correlation of .5 between patterns",
    "a_tenth_flipped": "a tenth of what is seen is flipped",
}
"""Evaluations of `evaluators/remember_further.gin` on random patterns, and what they are called here."""
LEARNED_ON = {
    "further": "4 patterns, short_term",
    "further_as_long": "the same, 6 times the streams",
    "further_short_term": "three delays, short_term",
    "further_full": "three delays, full",
    "further_hebb": "4 patterns, Hebb",
}
"""What rules were meta-trained on, by the folder of their evaluations."""
WITHOUT_LEARNING = {"outer_product": "outer product", "mean_of_the_stream": "mean of the stream"}
WAITS = {
    "at_once": "4 patterns",
    "after_16_others": "4 patterns, then 16 others",
    "after_16_steps_of_nothing": "4 patterns, then 16 steps of nothing",
}
"""Evaluations of `evaluators/remember_delays.gin`."""
WAITS_OF: dict[str, dict[str, Any]] = {
    "at_once": {"delay": 0},
    "after_16_others": {},
    "after_16_steps_of_nothing": {"distractors": False},
}
"""How the streams of each differ from those with others in between."""
DIGITS = "halves_of_digits"
SCORES = ("cumulative_accuracy", "final_accuracy")
CLASSIFIERS = {
    "best_sgd": "best SGD",
    "best_adam": "best Adam",
    "nearest_class_mean": "nearest class mean",
    "nearest_neighbour": "1-nearest neighbour",
    "best_rls": "best RLS",
}
SWEEPS = ("remember", "remember_rivals", "remember_gradients", "remember_delays", "remember_beside_classes")
_VISIBLE = "RUNS/remember/network=visible,synapses=learned,difficulty=4_patterns,seed=SEED"
_PATTERNS = "recipes/remember/associative.gin"
_AFTER_OTHERS = f"{_PATTERNS} evaluators/remember_delays.gin tasks.Remember.delay=16 tasks.Remember.distractors=True"
_TWO_WAYS = f"{_PATTERNS} \"learners.BodiesSynapses.network='two_way'\" learners.BodiesSynapses.hidden=[16]"
_FULL = "\"objectives.Remember.gradient='full'\""
TRAININGS = {
    "digits": "recipes/remember/digits.gin",
    "two_way": f"{_TWO_WAYS} STEPS=1600",
    "two_way_full": f"{_TWO_WAYS} {_FULL}",
    "after": f"{_AFTER_OTHERS} \"train.start_from='{_VISIBLE}'\"",
    "longer_short_term": f"{_AFTER_OTHERS} STEPS=1600",
    "longer_full": f"{_AFTER_OTHERS} STEPS=1600 {_FULL}",
    "as_long": f"{_PATTERNS} STEPS=800 POPULATION=6",
    "alike": f"{_PATTERNS} tasks.Remember.correlation=0.3",
}
"""By folder, what is asked of `vsml train`; SEED stands for every seed."""
_FURTHER = "evaluators/remember_further.gin"
EVALUATIONS = {
    "further": f"{_VISIBLE} {_FURTHER}",
    "further_as_long": f"RUNS/as_long/SEED {_FURTHER}",
    "further_short_term": f"RUNS/remember_delays/gradient=short_term,seed=SEED {_FURTHER}",
    "further_full": f"RUNS/remember_delays/gradient=full,seed=SEED {_FURTHER}",
    # Hebb's rule has rates for each neuron here, and so one size.
    "further_hebb": f"RUNS/remember_rivals/learner=Hebb,difficulty=4_patterns,seed=SEED {_FURTHER} 'EVALUATORS=["
    + ",".join(
        f"@{scope}/evaluators.Recalled()"
        for scope in ("as_trained", "eight", "sixteen", "after_16", "after_64_others", "after_64", "noisy")
    )
    + "]'",
    "further_alike": f"RUNS/alike/SEED {_FURTHER} 'EVALUATORS=[@digits/evaluators.Recalled()]'",
}
"""The same for `vsml eval`."""


def commands(seeds: Sequence[int]) -> tuple[str, ...]:
    """What makes the runs of this page."""
    return (
        *(
            f"vsml sweep sweeps/{name}.gin axes.SEED={as_list(seeds)} --sweep_dir RUNS/{name} --jobs 2"
            for name in SWEEPS
        ),
        *(
            f"vsml train {words.replace('SEED', str(seed))} SEED={seed} --run_dir RUNS/{name}/{seed}"
            for name, words in TRAININGS.items()
            for seed in seeds
        ),
        *(
            f"vsml eval {words.replace('SEED', str(seed))} --out RUNS/{name}/{seed}"
            for name, words in EVALUATIONS.items()
            for seed in seeds
        ),
        "vsml eval RUNS/remember_beside_classes/lifetimes=4_of_digits,_2_of_patterns,seed=0 "
        "evaluators.OnlineAccuracy.baselines=@evaluators.Baselines tasks.Classification.batch=1 --out RUNS/classes",
    )


def figures(runs: Path) -> dict[str, str]:
    """Recall by network and difficulty, what a synapse does, and digits that are completed."""
    rule = _rule(_lived(vsml.load(_found(runs, network="visible")[0].path)))
    return {"remember.svg": _grid(runs), "remember_rule.svg": rule, "remember_digits.svg": _completed(runs)}


def tables(runs: Path) -> dict[str, str]:
    """All of the grid with its rivals, which networks fail, the gradients, the rule, and where else it remembers."""
    grid, rivals = _recalled(runs, "remember", "network", "synapses"), _rivals(runs)
    names = list(next(iter(grid.values())))
    rows = [
        *(
            [network, synapses, *(over_seeds(cells[name]) for name in names)]
            for (network, synapses), cells in grid.items()
        ),
        *([f"*{rival}*", "", *(over_seeds(cells[name]) for name in names)] for rival, cells in rivals.items()),
    ]
    return {
        "grid": markdown(["network", "synapses", *names], rows),
        "means": _means(runs),
        "outputs": _alike(runs),
        "longer": _longer(runs),
        "delays": _delays(runs),
        "gradients": _gradients(runs),
        "writes": _writes(runs),
        "memory": _memory(),
        "rule": _shares(runs),
        "further": _further(runs),
        "positions": _positions(runs),
        "digits": _digits(runs),
        "classes": _classes(runs),
    }


def _recalled(runs: Path, sweep: str, *axes: str) -> dict[tuple[str, ...], dict[str, list[float]]]:
    """What is recalled by each seed: labels on these axes -> difficulty -> [seeds]."""
    found: dict[tuple[str, ...], dict[str, list[float]]] = {}
    for run in read_results(runs / sweep).runs:
        cells = found.setdefault(tuple(run.labels[axis] for axis in axes), {})
        cells.setdefault(run.labels["difficulty"], []).extend(means([run], NAME, "cumulative_recalled"))
    return found


def _rivals(runs: Path) -> dict[str, dict[str, list[float]]]:
    """Learners with other memories, and what needs no meta-training."""
    found = {rival: cells for (rival,), cells in _recalled(runs, "remember_rivals", "learner").items()}
    for run in _labelled(runs / "remember_rivals", learner="attention"):
        for rival, value in _without_learning(_streams_of(vsml.load(run.path))).items():
            found.setdefault(rival, {})[run.labels["difficulty"]] = [value]
    return found


@functools.cache
def _without_learning(tasks: Remember) -> dict[str, float]:
    """What is recalled by the outer product, and by the mean of the stream, which knows all patterns but no cue."""
    anyone = AttentionMemory()
    rivals = Recalled(NAME, tasks).run(anyone, anyone.init(jax.random.key(0), tasks.spec)).rivals
    known = [rivals[name] for name in ("outer_product", "mean_of_the_stream")]
    return {rival.label: float(np.mean(rival.scores["cumulative_recalled"])) for rival in known}


def _grid(runs: Path) -> str:
    """A column for each network, a row for each knob."""
    grid, rivals = _recalled(runs, "remember", "network", "synapses"), _rivals(runs)
    networks = list(dict.fromkeys(network for network, _ in grid))
    figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
    panels = figure.subplots(len(KNOBS), len(networks), sharey=True, sharex="row", squeeze=False)
    for row, (knob, places) in zip(panels, KNOBS.items(), strict=True):
        for axes, network in zip(row, networks, strict=True):
            for synapses, colour in SYNAPSES.items():
                cells = grid[network, synapses]
                x = [places[name] for name in cells if name in places]
                curves = np.asarray([cells[name] for name in cells if name in places])
                axes.plot(x, curves.mean(1), "o-", color=colour, markersize=3, label=f"{synapses} synapses")
                for seed in curves.T:
                    axes.plot(x, seed, color=colour, linewidth=0.5)
            for style, rival in zip(STYLES[1:], RIVALS, strict=False):
                cells = rivals[rival]
                curve = {places[name]: np.mean(values) for name, values in cells.items() if name in places}
                axes.plot(*zip(*curve.items(), strict=True), color=GREY, linestyle=style, linewidth=1.2, label=rival)
            axes.axhline(CHANCE, color=GREY, linewidth=0.6)
            axes.set(ylim=(0.45, 1.01), xticks=[*places.values()], xlabel=knob)
            tidy(axes)
        row[0].set_ylabel("recalled")
    for axes, network in zip(panels[0], networks, strict=True):
        axes.set_title(network, fontsize="medium")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=4, frameon=False, fontsize="small")
    return as_svg(figure)


def _gradients(runs: Path) -> str:
    """Recall of each seed by what the gradient goes through, and the share of the gain of the whole stream."""
    found = {gradient: cells for (gradient,), cells in _recalled(runs, "remember_gradients", "gradient").items()}
    grid = _recalled(runs, "remember", "network", "synapses")
    found = {
        "full": found["full"],
        "short_term": grid["visible", "learned"],
        "read_only": found["read_only"],
        "full, frozen synapses": found["full, frozen synapses"],
        "short_term, frozen synapses": grid["visible", "frozen"],
    }
    names = list(found["short_term"])
    rows = [[gradient, *(", ".join(map(short, cells[name])) for name in names)] for gradient, cells in found.items()]
    gains = {gradient: {name: float(np.median(found[gradient][name])) - CHANCE for name in names} for gradient in found}
    shares = [gains["short_term"][name] / gains["full"][name] for name in names]
    return markdown(["gradient", *names], [*rows, ["share of the gain of full", *map(short, shares)]])


def _writes(runs: Path) -> str:
    """How far synapses change by the first and by the last that is seen before recall, where that is longest."""
    rows = []
    for gradient in ("full", "short_term", "read_only"):
        if gradient == "short_term":
            alone = _labelled(runs / "remember", network="visible", synapses="learned")
        else:
            alone = _labelled(runs / "remember_gradients", gradient=gradient)
        alone = [run for run in alone if run.labels["difficulty"] == alone[-1].labels["difficulty"]]
        mixed = _labelled(runs / "remember_delays", gradient=gradient)
        for label, group, name in (("16 others alone", alone, NAME), ("all three", mixed, "after_16_others")):
            first, last = zip(*(_changes(vsml.load(run.path)) for run in group), strict=True)
            values = first, last, means(group, name, "cumulative_recalled")
            rows.append([label, gradient, *(", ".join(map(short, each)) for each in values)])
    columns = ["change by the first pattern", "by the last pattern before recall", "recalled"]
    return markdown(["meta-trained on", "gradient", *columns], rows)


def _changes(algorithm: LearnedAlgorithm) -> tuple[float, float]:
    """The deviation over streams of the change of a synapse by the first and by the last step before recall.

    What changes alike in all streams, whatever was seen, is no memory and does not count.
    """
    found = _over_streams(_changing, algorithm)  # each [lifetimes, entries, B, synapses]
    first, last = (float(np.sqrt(np.mean(np.var(each, axis=(0, 2))))) for each in found)
    return first, last


def _changing(learner: Learner, tasks: Remember, params: Params, key: Key) -> tuple[Array, Array]:
    task_key, state_key = jax.random.split(key)
    task = tasks.sample((), task_key)

    def live(state: Any, step: Any) -> tuple[Any, Any]:
        rows = jax.tree.map(lambda leaf: leaf[None], step)
        after = unroll(learner, params, state, task, steps=rows).state
        return after, after.synapses[0] - state.synapses[0]

    change = jax.lax.scan(live, learner.initial_state(params, state_key, tasks.spec), task.steps)[1]
    return change[0], change[task.recalled.min() - 1]


def _over_streams(stream: Stream, algorithm: LearnedAlgorithm, tasks: Remember | None = None) -> Any:
    """What a function finds in many lifetimes, of meta-training unless told otherwise: leaves [lifetimes, ...]."""
    tasks = tasks or _streams_of(algorithm)
    count = max(1, STREAMS // tasks.spec.batch)
    found = _compiled(stream, algorithm.learner, tasks)(algorithm.params, jax.random.split(jax.random.key(1), count))
    return jax.tree.map(np.asarray, found)


def _streams_of(algorithm: LearnedAlgorithm) -> Remember:
    """What it was meta-trained on; of several delays the one with others in between."""
    tasks = algorithm.experiment.tasks
    if isinstance(tasks, Mixture):
        tasks = tasks.tasks[tasks.names.index("after_others")]
    assert isinstance(tasks, Remember)
    return tasks


@functools.cache
def _compiled(stream: Stream, learner: Learner, tasks: Remember) -> Any:
    """Once for all seeds."""
    return jax.jit(jax.vmap(functools.partial(stream, learner, tasks), in_axes=(None, 0)))


class Written(NamedTuple):
    """What synapses between different visible neurons did when a pattern was shown: n patterns of all streams."""

    source: np.ndarray  # [n, synapses], the number that the source saw
    target: np.ndarray  # [n, synapses]
    before: np.ndarray  # [n, entries, synapses]
    change: np.ndarray  # [n, entries, synapses]
    heard: np.ndarray  # [n, entries, synapses], what the target hears of the pattern through its synapses
    descent: np.ndarray  # [n, entries, synapses], minus the gradient of the loss of its recall, where it begins
    other: np.ndarray  # the same for the pattern before


def _found(runs: Path, **labels: str) -> list[Run]:
    """The runs with learned synapses after 4 patterns, by seed."""
    return _labelled(runs / "remember", synapses="learned", difficulty="4 patterns", **labels)


def _labelled(sweep: Path, **labels: str) -> list[Run]:
    """The runs of a sweep with these labels."""
    return [run for run in read_results(sweep).runs if labels.items() <= run.labels.items()]


def _in_folder(runs: Path, name: str) -> list[Run]:
    """The runs or evaluations of all seeds."""
    return [run_in(runs / name / str(seed)) for seed in SEEDS]


def _rival(group: Sequence[Run], name: str, rival: str) -> str:
    values = [evaluation(run, name)["baselines"][rival]["cumulative_recalled"]["mean"] for run in group]
    return short(float(np.mean(values)))


def _further(runs: Path) -> str:
    """What a rule recalls that it was not meta-trained for."""
    groups = [_in_folder(runs, folder) for folder in LEARNED_ON]
    rows = []
    for name, label in FURTHER.items():
        recalled = (
            over_seeds(means(group, name, "cumulative_recalled"))
            if name in (group[0].summary or {})["evaluations"]
            else "-"
            for group in groups
        )
        rows.append([label, *recalled, *(_rival(groups[0], name, rival) for rival in WITHOUT_LEARNING)])
    return markdown(["", *LEARNED_ON.values(), *WITHOUT_LEARNING.values()], rows)


def _digits(runs: Path) -> str:
    """Lower halves of digits, by rules that learned to remember random patterns, and by rules that did digits."""
    learned = {
        "random patterns": (_in_folder(runs, "further"), DIGITS),
        "random patterns, 6 times the streams": (_in_folder(runs, "further_as_long"), DIGITS),
        "random patterns, three delays, short_term": (_in_folder(runs, "further_short_term"), DIGITS),
        "random patterns, three delays, full": (_in_folder(runs, "further_full"), DIGITS),
        "random patterns that are alike": (_in_folder(runs, "further_alike"), DIGITS),
        "digits": (_in_folder(runs, "digits"), "digits"),
    }
    scores = {label: means(group, name, "cumulative_recalled") for label, (group, name) in learned.items()}
    rows = [[label, *map(short, values)] for label, values in scores.items()]
    group = learned["random patterns"][0]
    rivals = {
        "*the mean image*": _rival(group, DIGITS, "mean_snippet"),
        "*the mean of the four images*": _rival(group, DIGITS, "mean_of_the_stream"),
        "*outer product of the four images*": _rival(group, DIGITS, "outer_product"),
        "*least squares from the upper half, without memory*": short(_completed_without_memory()),
    }
    seeds = [f"seed {seed}" for seed in SEEDS[: len(group)]]
    below = [[label, *[value] * len(seeds)] for label, value in rivals.items()]
    return markdown(["meta-trained on", *seeds], [*rows, *below])


def _positions(runs: Path) -> str:
    """Recall of sixteen patterns by when they were seen."""
    quarter = MANY // 4
    groups = [
        ("4 patterns, short_term", _found(runs, network="visible")),
        ("three delays, short_term", _labelled(runs / "remember_delays", gradient="short_term")),
        ("three delays, full", _labelled(runs / "remember_delays", gradient="full")),
        ("Hebb, 4 patterns", _labelled(runs / "remember_rivals", learner="Hebb", difficulty="4 patterns")),
        ("Hebb, three delays", _labelled(runs / "remember_delays", gradient="full, Hebb")),
    ]
    rows = []
    for label, group in groups:
        found = [_recalled_by_position(vsml.load(run.path)).reshape(4, quarter).mean(1) for run in group]
        rows.append([label, *(", ".join(map(short, values)) for values in np.transpose(found))])
    places = [f"{1 + place * quarter} to {(place + 1) * quarter}" for place in range(4)]
    return markdown(["meta-trained on", *places], rows)


def _recalled_by_position(algorithm: LearnedAlgorithm) -> np.ndarray:
    """Share of the hidden numbers of each of many patterns that is recalled, in the order in which they are shown."""
    tasks = replace(_streams_of(algorithm), snippets=MANY, delay=0)
    right, hidden = _over_streams(_recalling, algorithm, tasks)  # [lifetimes, patterns, B, n]
    return (right * hidden).sum((0, 2, 3)) / hidden.sum((0, 2, 3))


def _recalling(learner: Learner, tasks: Remember, params: Params, key: Key) -> tuple[Array, Array]:
    task_key, state_key = jax.random.split(key)
    task = tasks.sample((), task_key)
    outputs = unroll(learner, params, learner.initial_state(params, state_key, tasks.spec), task).outputs
    asked = task.recalled[:, 0]
    return (outputs * task.frames.y > 0)[asked], task.frames.hidden[asked]


def _completed_without_memory() -> float:
    """Share of lower halves that a linear map from upper ones says, fitted on the images of meta-training."""
    images = [Digits(split=split).load() for split in ("train", "test")]
    signs = [np.where(data.x.reshape(len(data.x), -1) > data.mean, 1.0, -1.0) for data in images]
    half = signs[0].shape[1] // 2
    (upper, lower), (cues, wanted) = ((each[:, :half], each[:, half:]) for each in signs)
    fitted = Ridge().fit(upper, lower)
    return float(np.mean(np.sign(fitted.predict(cues)) == wanted))


def _completed(runs: Path) -> str:
    """Digits as they were seen, their upper halves, and what two rules make of these."""
    random, digits = (
        run.curves(name)["picture_recalls"]
        for run, name in ((_in_folder(runs, "further")[0], DIGITS), (_in_folder(runs, "digits")[0], "digits"))
    )
    half = random.shape[1]
    figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
    panels = figure.subplots(3, 2 * half + 1, squeeze=False, width_ratios=[1] * half + [0.3] + [1] * half)
    for row, label, left, right in zip(panels, ("seen", "cue", "recalled"), random, digits, strict=True):
        row[half].set_axis_off()
        for axes, image in zip([*row[:half], *row[half + 1 :]], [*left, *right], strict=True):
            axes.imshow(image, cmap="gray", vmin=-1, vmax=1)
            axes.set(xticks=[], yticks=[])
        row[0].set_ylabel(label, rotation=0, ha="right", va="center")
    for first, title in ((0, "random patterns"), (half + 1, "digits")):
        axes = panels[0][first]
        text = axes.text(0, 1.1, f"meta-trained on {title}", transform=axes.transAxes)
        text.set_in_layout(False)  # it is wider than the image below
    figure.get_layout_engine().set(rect=(0, 0, 1, 0.92))  # pyright: ignore[reportOptionalMemberAccess, reportCallIssue]
    return as_svg(figure)


class Answers(NamedTuple):
    """The numbers that are not shown in all recalls of many streams, each [numbers]: -1, 1, or 0 for ties."""

    said: np.ndarray
    wanted: np.ndarray
    most: np.ndarray  # what most outputs of that recall say
    whole: np.ndarray  # the majority of the pattern that is asked for, hidden or not
    held: np.ndarray  # the majority of the patterns that the stream asks for
    seen: np.ndarray  # the majority of these and of the others in between


def _answers(algorithm: LearnedAlgorithm) -> Answers:
    found, hidden = _over_streams(_answering, algorithm)
    said, wanted, held, seen, most, whole = (values[hidden > 0] for values in found)
    return Answers(said, wanted, most, whole, held, seen)


def _answering(learner: Learner, tasks: Remember, params: Params, key: Key) -> tuple[list[Array], Array]:
    task_key, state_key = jax.random.split(key)
    task = tasks.sample((), task_key)
    frames, before = task.frames, jnp.arange(tasks.spec.length)[:, None, None] < task.recalled.min()
    outputs = unroll(learner, params, learner.initial_state(params, state_key, tasks.spec), task).outputs
    sums = frames.y, frames.y.sum(0), (frames.x * before).sum(0)
    most, whole = (jnp.where(values.sum(-1, keepdims=True) >= 0, 1, -1) for values in (jnp.sign(outputs), frames.y))
    said = outputs, *sums, most, whole
    return [jnp.broadcast_to(jnp.sign(values), outputs.shape) for values in said], frames.hidden


def _agreement(said: np.ndarray, mean: np.ndarray) -> float:
    """The share of the numbers without a tie on which both are the same."""
    return float(np.mean((said == mean)[mean != 0]))


def _means(runs: Path) -> str:
    """Who tells patterns apart, and who says the majority of all."""
    rows = []
    for label, sweep, wanted in SAYERS:
        for difficulty in SHOWN:
            group = _labelled(runs / sweep, difficulty=difficulty, **wanted)
            if not group:  # a sweep on the smallest scale has one difficulty
                continue
            found = [_answers(vsml.load(run.path)) for run in group]
            columns = (
                [_agreement(each.said, each.wanted) for each in found],
                [_agreement(each.said, each.held) for each in found],
                [_agreement(each.said, each.seen) for each in found],
            )
            rows.append([label, difficulty, *(", ".join(map(short, values)) for values in columns)])
    header = ["", "seen", "recalled", "says the majority of the patterns to hold", "says that of all seen"]
    return markdown(header, rows)


def _alike(runs: Path) -> str:
    """Whether the outputs of a network tell numbers apart, and what is recalled where they do not."""
    rows = []
    for network in ("visible", "outputs of their own", "layered"):
        found = [_answers(vsml.load(run.path)) for run in _found(runs, network=network)]
        columns = (
            [_agreement(each.said, each.wanted) for each in found],
            [_agreement(each.said, each.most) for each in found],
            [_agreement(each.whole, each.wanted) for each in found],
        )
        rows.append([network, *map(over_seeds, columns)])
    header = ["network", "recalled", "outputs that say what most of them say", "majority of the pattern"]
    return markdown(header, rows)


def _longer(runs: Path) -> str:
    """The network of two ways, meta-trained as the others, for four times as long, and through the whole stream."""
    groups = {
        "400 meta-steps, short_term": _found(runs, network="visible, two ways"),
        "1,600 meta-steps, short_term": _in_folder(runs, "two_way"),
        "400 meta-steps, full": _in_folder(runs, "two_way_full"),
    }
    rows = [
        [label, *(short(value) for value in means(group, NAME, "cumulative_recalled"))]
        for label, group in groups.items()
    ]
    return markdown(["visible, two ways", *(f"seed {seed}" for seed in SEEDS[: len(rows[0]) - 1])], rows)


def _delays(runs: Path) -> str:
    """Recall after a wait by what was meta-trained for it, and in which way."""
    alone, mixed = "16 others alone", "all three"
    by_gradient = {
        gradient: _labelled(runs / "remember_delays", gradient=gradient)
        for gradient in ("short_term", "full", "read_only", "full, frozen synapses", "full, Hebb", "full, attention")
    }
    groups = {
        (f"{alone}, 1,600 meta-steps", "short_term"): _in_folder(runs, "longer_short_term"),
        (f"{alone}, 1,600 meta-steps", "full"): _in_folder(runs, "longer_full"),
        (f"{alone}, from a rule for 4 patterns", "short_term"): _in_folder(runs, "after"),
        **{(mixed, gradient): group for gradient, group in by_gradient.items()},
    }
    rows = [
        [label, gradient, *(", ".join(map(short, means(group, name, "cumulative_recalled"))) for name in WAITS)]
        for (label, gradient), group in groups.items()
    ]
    others = _streams_of(vsml.load(by_gradient["short_term"][0].path))
    known = [_without_learning(replace(others, **knobs)) for knobs in WAITS_OF.values()]
    rows += [[f"*{rival}*", "", *(short(values[rival]) for values in known)] for rival in known[0]]
    return markdown(["meta-trained on", "gradient", *WAITS.values()], rows)


def _memory() -> str:
    """MiB that XLA plans for the meta-gradient of one lifetime."""
    cases = {
        "4 patterns": (),
        "4 patterns, then 16 others": ("tasks.Remember.delay=16", "tasks.Remember.distractors=True"),
        "4 patterns, then 64 steps of nothing": ("tasks.Remember.delay=64",),
    }
    rows = []
    for gradient, segmented in (("full", False), ("full", True), ("short_term", False), ("read_only", False)):
        label = {False: gradient, True: f"{gradient}, keeping states alone"}[segmented]
        rows.append([label, *(f"{_planned(gradient, segmented, case):.1f}" for case in cases.values())])
    return markdown(["MiB", *cases], rows)


def _planned(gradient: str, segmented: bool, overrides: Sequence[str]) -> float:
    of = config.load(
        "recipes/remember/associative.gin", [*overrides, f"objectives.Remember.gradient='{gradient}'", "EVALUATORS=[]"]
    ).build()
    learner, spec, tasks = of.learner, of.spec, of.tasks
    assert isinstance(tasks, Remember)

    def loss(params: Any, key: Any) -> Any:
        state = learner.initial_state(params, key, spec)
        segment = spec.length if segmented else None
        return of.objective.evaluate(learner, params, state, tasks.sample((), key), key, segment)[0]

    key = jax.random.key(0)
    lowered = jax.jit(jax.grad(loss)).lower(learner.init(key, spec), key)
    analysis = lowered.compile(compiler_options=compiler_options(differentiates=True)).memory_analysis()
    return analysis.temp_size_in_bytes / 2**20 if analysis else float("nan")


def _classes(runs: Path) -> str:
    """Accuracy of an online classifier that was meta-trained with and without remembering."""
    groups: dict[str, list[Run]] = {}
    for run in read_results(runs / "remember_beside_classes").runs:
        groups.setdefault(run.labels["lifetimes"], []).append(run)
    rows = [[label, *(over_seeds(means(group, "digits", name)) for name in SCORES)] for label, group in groups.items()]
    rivals = evaluation(run_in(runs / "classes"), "digits")["baselines"]
    rows += [[f"*{name}*", *(score(rivals[key], each) for each in SCORES)] for key, name in CLASSIFIERS.items()]
    return markdown(["lifetimes of a meta-step", "all 30 examples", "the last 3"], rows)


def _written(group: Sequence[Run]) -> list[Written]:
    """What the synapses of each run did."""
    return [_lived(vsml.load(run.path)) for run in group]


def _lived(algorithm: LearnedAlgorithm) -> Written:
    found = _over_streams(_writing, algorithm)
    x, before, change, descent, other = (leaf.reshape(-1, *leaf.shape[3:]) for leaf in found)
    n = x.shape[-1]
    source, target = (places.ravel() for places in np.indices((n, n)))
    apart = source != target
    weights = before.reshape(*before.shape[:2], n, n)
    heard = np.einsum("bmij,bi->bmj", weights, x)[:, :, target] / n**0.5
    values = (before, change, heard, descent, other)
    before, change, heard, descent, other = (value[:, :, apart] for value in values)
    return Written(x[:, source[apart]], x[:, target[apart]], before, change, heard, descent, other)


def _writing(learner: Learner, tasks: Remember, params: Params, key: Key) -> Any:
    spec = tasks.spec
    task_key, state_key = jax.random.split(key)
    task = tasks.sample((), task_key)

    def write(state: Any, index: Any) -> tuple[Any, Any]:
        rows = jax.tree.map(lambda leaf: leaf[task.written[index]], task.steps)
        after = unroll(learner, params, state, task, steps=rows).state

        def loss(synapses: Any, asked: Any) -> Any:
            recall = jax.tree.map(lambda leaf: leaf[task.recalled[asked]], task.steps)
            lived = unroll(learner, params, state._replace(synapses=synapses), task, steps=recall)
            return task.score(recall, lived.outputs, lived.outcomes).loss.sum()

        slopes = [jax.grad(loss)(state.synapses, asked)[0] for asked in (index, index - 1)]
        before, change = state.synapses[0], after.synapses[0] - state.synapses[0]
        found = (jnp.swapaxes(leaf, 0, 1) for leaf in (before, change, *(-slope for slope in slopes)))
        return after, (rows.x[0].reshape(spec.batch, spec.num_inputs), *found)

    state = learner.initial_state(params, state_key, spec)
    written = jax.lax.scan(write, state, jnp.arange(len(task.written)))[1]
    return jax.tree.map(lambda leaf: leaf[1:], written)  # there is none before the first


def _features(found: Written) -> dict[str, list[np.ndarray]]:
    """What known rules would make of the same: regressors of the change of each entry, [n, synapses]."""
    hebb = found.source * found.target
    own = list(np.moveaxis(found.before, 1, 0))
    heard = [found.source * each for each in np.moveaxis(found.heard, 1, 0)]
    return {
        "Hebb": [hebb],
        "Oja": [hebb, *(found.target**2 * entry for entry in own)],
        "delta rule": [hebb, *heard],
        "signs": [hebb, found.source, found.target],
        "linear": [hebb, *heard, *own, found.source, found.target],
    }


def _share(change: np.ndarray, features: Sequence[np.ndarray]) -> float:
    """Explained share of the variance of all entries, of the best linear mixture for each."""
    columns = np.stack([np.ones(features[0].size), *(feature.ravel() for feature in features)], axis=1)
    left = total = 0.0
    for entry in np.moveaxis(change, 1, 0):
        wanted = entry.ravel()
        solution = np.linalg.lstsq(columns, wanted, rcond=None)[0]
        left += np.square(wanted - columns @ solution).sum()
        total += np.square(wanted - wanted.mean()).sum()
    return float(1 - left / total)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Mean over patterns of the correlation over all entries of all synapses."""
    a, b = (each.reshape(len(each), -1) for each in (a, b))
    a, b = (each - each.mean(1, keepdims=True) for each in (a, b))
    return float(((a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)).mean())


def _shares(runs: Path) -> str:
    """How much of the change of synapses known rules explain, and how it lies to the gradient of recall."""
    found = _written(_found(runs, network="visible"))
    measures: dict[str, Callable[[Written], float]] = {
        **{
            f"explained by {label}": lambda w, rule=rule: _share(w.change, _features(w)[rule])
            for rule, label in RULES.items()
        },
        "correlation with descent on its recall": lambda w: _correlation(w.change, w.descent),
        "with descent on the recall of the pattern before": lambda w: _correlation(w.change, w.other),
    }
    rows = []
    for name, measure in measures.items():
        values = [measure(written) for written in found]
        rows.append([name, plus_minus(*estimate(values)) if len(values) > 1 else short(values[0])])
    return markdown(["of the change of synapses when a pattern is shown", f"{len(found)} seeds"], rows)


def _rule(written: Written) -> str:
    """The change of each entry of a synapse by its own value, for the four pairs of numbers that its neurons see."""
    entries = written.change.shape[1]
    figure = Figure(figsize=(WIDTH, 2.4), layout="constrained")
    panels = figure.subplots(1, entries, squeeze=False)[0]
    pairs: Mapping[str, tuple[int, int]] = {"+ +": (1, 1), "- -": (-1, -1), "+ -": (1, -1), "- +": (-1, 1)}
    for entry, axes in enumerate(panels):
        own, change = written.before[:, entry], written.change[:, entry]
        edges = np.unique(np.quantile(own, np.linspace(0, 1, 13)))
        for width, colour, (label, (source, target)) in zip((4, 3, 2, 1), COLOURS, pairs.items(), strict=False):
            chosen = (written.source == source) & (written.target == target)
            inside = np.clip(np.digitize(own[chosen], edges) - 1, 0, len(edges) - 2)
            sizes = np.bincount(inside, minlength=len(edges) - 1)
            mean = np.bincount(inside, change[chosen], minlength=len(edges) - 1) / np.maximum(sizes, 1)
            centre = 0.5 * (edges[1:] + edges[:-1])
            axes.plot(centre[sizes > 20], mean[sizes > 20], color=colour, linewidth=width, label=label)
        axes.axhline(0, color=GREY, linewidth=0.6)
        axes.set(title=f"entry {entry + 1}", xlabel="before")
        tidy(axes)
    panels[0].set_ylabel("change")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        title="what source and target see",
        loc="outside lower left",
        ncols=4,
        frameon=False,
        fontsize="small",
    )
    return as_svg(figure)
