"""How fast meta-training is here: beside the plain twin and beside what the machine could do.

    python benchmarks/run.py [--quick] [--json FILE] [--only ceilings,steps,bodies,memory,slopes,start]

Every figure is the median of several runs; what is compared runs in turn in one process. A *tick* is one state update
of one sub-RNN. docs/performance.md says how to read the tables.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from plain_vsml import PlainVSML

from vsml import config
from vsml.experiment import Experiment
from vsml.hardware import compiler_options, is_cpu, products_in, tanh
from vsml.learners.base import Learner
from vsml.learners.bodies_synapses import BodiesSynapses
from vsml.learners.unroll import unroll
from vsml.learners.vsml import VSML
from vsml.meta_optimizers.base import EstimatorState, Lifetimes, Population, mean_over_members
from vsml.meta_optimizers.bptt import BPTT
from vsml.tasks.base import Task
from vsml.tasks.remember import Remember
from vsml.training.meta_step import build_meta_step, init_estimator, init_state
from vsml.training.parallel import Parallel
from vsml.types import Array, Key, Metrics, Params, State

SIZES = {"64": "sources.Random.image_shape=[8,8,1]", "784": "sources.Random.image_shape=[28,28,1]"}
NOISE = (
    "tasks.Classification.source=@sources.Random",
    "sources.Random.num_examples=512",
    "tasks.Classification.transforms=[]",
    "EVALUATORS=[]",
)
ONE_CORE = "VSML_BENCHMARK_ONE_CORE"
"""Environment variable: this process measures what one core does."""

ESTIMATORS = {
    "ES": ["recipes/paper/from_scratch_es.gin"],
    "PES": ["recipes/paper/from_scratch_es.gin", "meta_optimizers/pes.gin"],
    "BPTT": ["recipes/paper/from_scratch_bptt.gin", "cells.LSTM.layer_norm=False"],
}


@dataclasses.dataclass(frozen=True)
class PlainBPTT(BPTT):
    """Backprop that keeps everything of all examples."""

    def gradient(
        self, params: Params, state: EstimatorState, population: Population, lifetimes: Lifetimes
    ) -> tuple[Params, EstimatorState, Metrics]:
        def member(key: Key) -> tuple[Params, Metrics]:
            return jax.grad(lambda p: lifetimes.loss(p, key), has_aux=True)(params)

        gradient, metrics = mean_over_members(self.for_each(member, population.keys))
        return gradient, state, metrics


def experiment(estimator: str, inputs: str, *overrides: str) -> Experiment:
    """The paper's setting on noise of the shape of digits or of MNIST."""
    recipe, *more = ESTIMATORS[estimator]
    return config.load(recipe, [*more, *NOISE, SIZES[inputs], *overrides]).build()


def plain_twin(real: Experiment) -> Experiment:
    """The same experiment as one would write it first: nested vmap over sub-RNNs, vmap over lifetimes."""
    learner = PlainVSML(**{field.name: getattr(real.learner, field.name) for field in dataclasses.fields(VSML)})
    estimator = dataclasses.replace(real.meta_optimizer, chunk=real.population)
    if isinstance(estimator, BPTT):
        estimator = PlainBPTT(chunk=real.population)
    return dataclasses.replace(real, learner=learner, meta_optimizer=estimator)


class Step:
    """A compiled meta-step and what it works on."""

    def __init__(self, of: Experiment, devices: int, options: bool = True):
        """`options`: compiled with those of `compiler_options`, or as JAX does by default."""
        self.experiment = of
        parallel = Parallel("shard_map", jax.devices()[:devices])
        data = of.load()
        state = init_state(of)
        estimator = init_estimator(of, state.params, data)
        self._data = parallel.replicate(jax.device_get(data))
        self._carry = parallel.replicate(jax.device_get(state)), parallel.spread(jax.device_get(estimator))
        began = time.perf_counter()
        function, differentiates = build_meta_step(of, devices), of.meta_optimizer.differentiates
        chosen = compiler_options(differentiates) if options else {}
        with products_in(of.precision):
            lowered = parallel.lower(function, *self._carry, self._data)
        self._program = lowered.compile(compiler_options=chosen)
        self.compile_seconds = time.perf_counter() - began
        self.planned_mib = planned_mib(self._program)

    @functools.cached_property
    def loss(self) -> float:
        """Of the first meta-step."""
        return self.run()

    def run(self) -> float:
        """One meta-step; its loss."""
        *self._carry, metrics = jax.block_until_ready(self._program(*self._carry, self._data))
        return float(metrics["loss"])

    @property
    def params(self) -> Params:
        """Meta-parameters after the meta-steps so far."""
        return self._carry[0].params

    @property
    def lifetimes(self) -> int:
        """Lifetimes per meta-step."""
        return self.experiment.population * (1 if isinstance(self.experiment.meta_optimizer, BPTT) else 2)

    @property
    def ticks(self) -> int:
        """Updates of sub-RNNs per meta-step; of a windowed estimator those of one window."""
        spec, learner = self.experiment.spec, self.experiment.learner
        assert isinstance(learner, VSML)
        examples = getattr(self.experiment.meta_optimizer, "window", None) or spec.length
        return self.lifetimes * examples * spec.num_inputs * spec.num_outputs * learner.micro_ticks


def planned_mib(program: Any) -> float:
    """What a compiled program plans for temporaries."""
    analysis = program.memory_analysis()
    return analysis.temp_size_in_bytes / 2**20 if analysis else float("nan")


def seconds(runs: int, *functions: Callable[[], Any]) -> list[list[float]]:
    """Times of each function, which run in turn."""
    times: list[list[float]] = [[] for _ in functions]
    for function in functions:
        function()
    for _ in range(runs):
        for function, own in zip(functions, times, strict=True):
            began = time.perf_counter()
            function()
            own.append(time.perf_counter() - began)
    return times


def spread(times: Sequence[float]) -> str:
    """Median and range."""
    return f"{statistics.median(times):.3f} ({min(times):.3f} to {max(times):.3f})"


def on_one_core(part: str, runs: int) -> Any:
    """What a part of the benchmark finds in a process of one core."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "found.json"
        subprocess.run(
            [sys.executable, __file__, "--only", part, "--runs", str(runs), "--json", str(file)],
            env={**os.environ, ONE_CORE: "1", "JAX_NUM_CPU_DEVICES": "1"},
            check=True,
            capture_output=True,
        )
        return json.loads(file.read_text())[part]


def ceilings(runs: int) -> dict[str, float]:
    """What one core does at best: products in the shape of the gates, tanh, and copies.

    On a CPU in a process of one core: elsewhere XLA would share loops among threads, which would wait for each other.
    """
    if is_cpu() and ONE_CORE not in os.environ:
        return on_one_core("ceilings", runs)
    programs = at_best()
    times = seconds(runs, *(run for run, _ in programs.values()))
    return {
        name: count / statistics.median(own) / 1e9
        for (name, (_, count)), own in zip(programs.items(), times, strict=True)
    }


def at_best() -> dict[str, tuple[Callable[[], Any], int]]:
    """Programs that do one thing only, and how much of it."""
    units = 784
    weights, inputs = jnp.ones((18, 64)) * 0.01, jnp.ones((18, units)) * 0.01
    gates = jnp.ones((16, units)) * 0.01

    def repeated(repeats: int, function: Callable[[Any], Any], start: Any) -> Callable[[], Any]:
        def run(value: Any) -> Any:
            return jax.lax.fori_loop(0, repeats, lambda _, v: function(v), value)

        program = jax.jit(run).lower(start).compile(compiler_options=compiler_options(differentiates=False))
        return lambda: jax.block_until_ready(program(start))

    def product(x: Any) -> Any:
        z = jax.lax.dot_general(weights, x, (((0,), (0,)), ((), ())))
        return x * (1.0 + 1e-30 * z[0, 0])  # each turn needs the one before

    large = jnp.ones((1024, 1024)) * 1e-3
    many, few = 5000, 100
    return {
        "gate_product_gflops": (repeated(many, product, inputs), many * 2 * 64 * 18 * units),
        "large_product_gflops": (repeated(few, lambda z: z @ large, large), few * 2 * 1024**3),
        "tanh_per_second_g": (repeated(many, tanh, gates), many * gates.size),
        "copy_gb_per_second": (repeated(few, lambda z: z + 1.0, jnp.ones((1 << 22,))), few * 2 * 4 * (1 << 22)),
    }


def bound(ceiling: dict[str, float]) -> float:
    """Millions of forward ticks per second and core, were there nothing but products and tanh: N = 16, two channels."""
    nanoseconds = 2 * 64 * 18 / ceiling["gate_product_gflops"] + 5 * 16 / ceiling["tanh_per_second_g"]
    return 1e3 / nanoseconds


def meta_steps(runs: int, quick: bool, devices: int, ceiling: dict[str, float] | None) -> list[dict[str, Any]]:
    """Meta-steps beside those of the plain twin."""
    cases = [("ES", "784", 100, 8), ("ES", "64", 100, 8), ("BPTT", "784", 100, 8), ("BPTT", "64", 100, 8)]
    if not quick:
        cases += [("PES", "784", 100, 8), ("ES", "784", 500, 8), ("ES", "64", 500, 64), ("ES", "64", 100, 1024)]
        cases += [("BPTT", "64", 500, 8)]
    rows = []
    for estimator, inputs, length, population in cases:
        real = experiment(estimator, inputs, f"LENGTH={length}", f"POPULATION={population}")
        ours, plain = Step(real, devices), Step(plain_twin(real), devices, options=False)
        same = Step(plain_twin(real), devices) if population < 1024 else None  # which takes long enough once
        assert abs(ours.loss - plain.loss) < 1e-4, (ours.loss, plain.loss)
        own, other, *others = seconds(runs, ours.run, plain.run, *([same.run] if same else []))
        median = statistics.median(own)
        rows.append(
            {
                "case": f"{estimator} {inputs}->10, T={length}, population {population}",
                "seconds": own,
                "plain_seconds": other,
                "ratio": statistics.median(other) / median,
                "ratio_same_options": statistics.median(others[0]) / median if others else None,
                "plain_mticks_per_second": ours.ticks / statistics.median(other) / 1e6,
                "mticks_per_second": ours.ticks / median / 1e6,
                "lifetimes_per_second": ours.lifetimes / median,
                "planned_mib": ours.planned_mib,
                "plain_planned_mib": plain.planned_mib,
                "compile_seconds": ours.compile_seconds,
                "of_bound": ours.ticks / median / 1e6 / devices / bound(ceiling)
                if ceiling and estimator != "BPTT"
                else None,
            }
        )
        row = rows[-1]
        share = f"{row['of_bound']:.0%}" if row["of_bound"] else "-"
        same_options = f"{row['ratio_same_options']:.2f}" if others else "-"
        print(
            f"| {row['case']} | {spread(own)} | {row['mticks_per_second']:.1f} | {row['lifetimes_per_second']:.1f} | "
            f"{row['ratio']:.2f} | {same_options} | {row['planned_mib']:.0f} / {row['plain_planned_mib']:.0f} | "
            f"{row['compile_seconds']:.1f} | {share} |",
            flush=True,
        )
    return rows


def bodies(runs: int) -> list[dict[str, Any]]:
    """Examples that fully connected bodies and synapses live through forward, on one core, beside their own bound.

    The bound has what a synapse cannot do without, its two products, that of its rule and that of its messages, and the
    tanh of its rule, at the rates that are measured in turn with it: the share is the median of those of all turns.
    """
    if is_cpu() and ONE_CORE not in os.environ:
        return on_one_core("bodies", runs)
    programs, rows = at_best(), []
    (products, flop), (tanhs, evaluations) = (programs[name] for name in ("gate_product_gflops", "tanh_per_second_g"))
    for size, batch in ((16, 8), (64, 8), (256, 1), (256, 8)):
        overrides = [f"tasks.Remember.size={size}", f"tasks.Remember.batch={batch}"]
        real = config.load("recipes/remember/associative.gin", overrides).build()
        learner, spec, tasks = real.learner, real.spec, real.tasks
        assert isinstance(learner, BodiesSynapses)
        assert isinstance(tasks, Remember)
        params = learner.init(jax.random.key(0), spec)
        state = learner.initial_state(params, jax.random.key(1), spec)
        task = tasks.sample((), jax.random.key(2))

        def run(params: Params, state: State, learner: Learner = learner, task: Task = task) -> Array:
            return unroll(learner, params, state, task).outputs

        program = jax.jit(run).lower(params, state).compile(compiler_options=compiler_options(differentiates=False))
        live = functools.partial(lambda program, *given: jax.block_until_ready(program(*given)), program, params, state)
        own, *best = seconds(runs, live, products, tanhs)
        entries, width = learner.synapse_size, learner.width
        updates = spec.length * batch * size**2
        flop_each = 2 * (width * 3 * entries + learner.ticks * learner.message_size)
        tanh_each = width + 2 * entries
        shares = [
            updates * (flop_each * of_product / flop + tanh_each * of_tanh / evaluations) / mine
            for mine, of_product, of_tanh in zip(own, *best, strict=True)
        ]
        rows.append(
            {
                "case": f"{size} bodies, {size**2:,} synapses, {batch} stream{'s' if batch > 1 else ''}",
                "seconds": own,
                "msynapses_per_second": updates / statistics.median(own) / 1e6,
                "of_bound": statistics.median(shares),
                "planned_mib": planned_mib(program),
            }
        )
    return rows


def memory(devices: int) -> dict[str, list[float]]:
    """MiB that XLA plans for temporaries of long lifetimes, ours and the plain twin's, which is only compiled here."""
    found = {}
    for estimator, inputs, population in (("BPTT", "784", 8), ("BPTT", "64", 8), ("ES", "784", 8), ("ES", "784", 1024)):
        real = experiment(estimator, inputs, "LENGTH=500", f"POPULATION={population}")
        own, plain = (Step(of, devices).planned_mib for of in (real, plain_twin(real)))
        found[f"{estimator} {inputs}->10, T=500, population {population}"] = [own, plain]
        print(f"| {[*found][-1]} | {own:.0f} | {plain:.0f} | 1/{plain / own:.0f} |", flush=True)
    return found


def slopes(runs: int) -> dict[str, float]:
    """Slope of log time over log size, on one device, and the speed-up of a second one."""
    found = {}
    axes = {
        "T": [("64", f"LENGTH={n}", "POPULATION=4") for n in (25, 100, 400)],
        "population": [("64", "LENGTH=50", f"POPULATION={n}") for n in (4, 16, 64)],
        "sub-RNNs": [
            ("784", "LENGTH=25", "POPULATION=2", f"sources.Random.image_shape=[{n},28,1]") for n in (7, 28, 112)
        ],
    }
    for name, points in axes.items():
        steps = [Step(experiment("ES", inputs, *rest), 1) for inputs, *rest in points]
        medians = [statistics.median(own) for own in seconds(runs, *(step.run for step in steps))]
        found[name] = float(np.polyfit(np.log([step.ticks for step in steps]), np.log(medians), 1)[0])
    one, two = (Step(experiment("ES", "784", "LENGTH=50", "POPULATION=8"), n) for n in (1, 2))
    alone, both = (statistics.median(own) for own in seconds(runs, one.run, two.run))
    found["two devices"] = alone / both
    for name, value in found.items():
        print(f"| {name} | {value:.2f} |", flush=True)
    return found


def start(runs: int) -> dict[str, list[float]]:
    """Seconds from `vsml train` to the end of its first meta-step, without and with compiled programs at hand."""
    times: dict[str, list[float]] = {"cold": [], "warm": []}
    words = ["recipes/quickstart.gin", "STEPS=1", "EVALUATORS=[]"]
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            for name in times:
                began = time.perf_counter()
                subprocess.run(
                    [sys.executable, "-m", "vsml", "train", *words, "--run_dir", f"{folder}/{name}"],
                    env={**os.environ, "JAX_COMPILATION_CACHE_DIR": f"{folder}/compiled"},
                    check=True,
                    capture_output=True,
                )
                times[name].append(time.perf_counter() - began)
    for name, own in times.items():
        print(f"| {name} | {spread(own)} |", flush=True)
    return times


def main() -> None:
    """Prints the tables and writes them as JSON."""
    parser = argparse.ArgumentParser(description="How fast meta-training is here.")
    parser.add_argument("--quick", action="store_true", help="four cases instead of nine")
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--runs", type=int, default=5, help="of which the median is shown")
    parser.add_argument("--only", default="ceilings,steps,bodies,memory,slopes,start", help="parts, comma-separated")
    arguments = parser.parse_args()
    parts = arguments.only.split(",")
    if ONE_CORE in os.environ:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    elif is_cpu() and len(jax.devices()) == 1:
        os.environ["JAX_NUM_CPU_DEVICES"] = "2"
        os.execv(sys.executable, [sys.executable, *sys.argv])
    devices = min(2, len(jax.devices()))
    result: dict[str, Any] = {"jax": jax.__version__, "device": jax.devices()[0].device_kind, "devices": devices}
    if "ceilings" in parts:
        result["ceilings"] = ceilings(arguments.runs)
        print("\n| one core | |\n|---|---|")
        for name, value in result["ceilings"].items():
            print(f"| {name} | {value:.1f} |", flush=True)
        print(f"| forward bound, M ticks/s | {bound(result['ceilings']):.1f} |", flush=True)
    if "steps" in parts:
        print(
            "\n| case | s per meta-step | M ticks/s | lifetimes/s | times plain | same options | MiB / plain | "
            "compile s | of bound |\n|---|---|---|---|---|---|---|---|---|"
        )
        result["steps"] = meta_steps(arguments.runs, arguments.quick, devices, result.get("ceilings"))
    if "bodies" in parts:
        print("\n| one core, forward | M synapses/s | of bound | MiB |\n|---|---|---|---|")
        result["bodies"] = bodies(arguments.runs)
        for row in result["bodies"]:
            rate, share = f"{row['msynapses_per_second']:.1f}", f"{row['of_bound']:.0%}"
            print(f"| {row['case']} | {rate} | {share} | {row['planned_mib']:.1f} |", flush=True)
    if "memory" in parts:
        print("\n| planned, MiB | | plain | |\n|---|---|---|---|")
        result["memory"] = memory(devices)
    if "slopes" in parts:
        print("\n| slope of time over size; gain of two devices | |\n|---|---|")
        result["slopes"] = slopes(arguments.runs)
    if "start" in parts:
        print("\n| from `vsml train` to the first meta-step | s |\n|---|---|")
        result["start"] = start(min(3, arguments.runs))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
