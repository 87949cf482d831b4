"""metrics.jsonl and TensorBoard's event files, read back by TensorBoard's own reader."""
# pyright: reportAttributeAccessIssue=false
# (the protocol buffers of tensorboardX make their classes when imported)

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest
from runs import ES, NO_EVALUATORS, events, metrics, train
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import plugin_hparams_pb2

from vsml.errors import UserError
from vsml.evaluation import Evaluation, Rival
from vsml.training.writers import MetricsFile, TensorBoard, compared_by, read_metrics


def write(path: Path, resume_step: int, steps: range) -> None:
    file = MetricsFile(path, resume_step)
    for step in steps:
        file.write(step, {"loss": 1 / step})
    file.close()


def test_metrics_are_one_object_per_line(tmp_path: Path):
    write(tmp_path / "m", 0, range(1, 4))
    assert (tmp_path / "m").read_text() == (
        '{"step": 1, "loss": 1.0}\n{"step": 2, "loss": 0.5}\n{"step": 3, "loss": 0.3333333333333333}\n'
    )


def test_metrics_behind_the_checkpoint_are_dropped(tmp_path: Path):
    write(tmp_path / "straight", 0, range(1, 8))
    write(tmp_path / "resumed", 0, range(1, 6))
    write(tmp_path / "resumed", 3, range(4, 8))
    assert (tmp_path / "resumed").read_bytes() == (tmp_path / "straight").read_bytes()


def test_a_run_that_starts_over_starts_an_empty_file(tmp_path: Path):
    write(tmp_path / "m", 0, range(1, 4))
    write(tmp_path / "m", 0, range(1, 2))
    assert [entry["step"] for entry in read_metrics(tmp_path / "m")] == [1]


@pytest.mark.parametrize("rest", ['{"step": 3, "lo', '{"step": 3}', "\0\0\0\0", "\0\0\n", "{]\n"])
def test_a_line_cut_short_is_dropped(tmp_path: Path, rest: str):
    write(tmp_path / "m", 0, range(1, 3))
    whole = (tmp_path / "m").read_text()
    (tmp_path / "m").write_text(whole + rest)
    assert [entry["step"] for entry in read_metrics(tmp_path / "m")] == [1, 2]
    write(tmp_path / "m", 3, range(4, 4))
    assert (tmp_path / "m").read_text() == whole


def test_dropping_lines_is_all_or_nothing(tmp_path: Path, monkeypatch):
    """A process killed while it resumes must not take the metrics with it."""
    write(tmp_path / "m", 0, range(1, 4))
    before = (tmp_path / "m").read_text()

    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dies)
        with pytest.raises(KeyboardInterrupt):
            MetricsFile(tmp_path / "m", 2)
    assert (tmp_path / "m").read_text() == before


def test_what_is_not_finite_is_null(tmp_path: Path):
    file = MetricsFile(tmp_path / "m", 0)
    file.write(1, {"loss": float("nan"), "norm": float("inf"), "skipped": 1})
    file.close()
    assert (tmp_path / "m").read_text() == '{"step": 1, "loss": null, "norm": null, "skipped": 1}\n'


def values(directory: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events(directory).Scalars(tag)]


def log(directory: Path, resume_step: int, steps: range, value: float) -> None:
    board = TensorBoard(directory, resume_step)
    board.config("text", {"LENGTH": 5})
    for step in steps:
        board.scalars(step, {"loss": value})
    board.close()


def test_no_step_of_a_resumed_run_appears_twice(tmp_path: Path):
    log(tmp_path, 0, range(1, 6), 1.0)
    log(tmp_path, 3, range(4, 8), 2.0)
    log(tmp_path, 6, range(7, 9), 3.0)
    steps = [1, 2, 3, 4, 5, 6, 7, 8]
    assert values(tmp_path / "train", "meta_train/loss") == list(zip(steps, [1, 1, 1, 2, 2, 2, 3, 3], strict=True))
    assert len(events(tmp_path).Tensors("config.gin/text_summary")) == 1


def test_a_run_killed_before_its_first_checkpoint_starts_over(tmp_path: Path):
    log(tmp_path, 0, range(1, 6), 1.0)
    log(tmp_path, 0, range(1, 3), 2.0)
    assert values(tmp_path / "train", "meta_train/loss") == [(1, 2.0), (2, 2.0)]


def evaluation(mean: float) -> Evaluation:
    scores = {"reward": np.full(3, mean), "steps_to_halve": np.full(3, mean)}
    rival = Rival("best SGD", scores, curves={"correct": np.zeros((3, 40))})
    curves = {"correct": np.ones((3, 40)), "odd": np.ones(40)}
    return Evaluation("plain", scores, "reward", {"best_sgd": rival}, curves)


def test_an_evaluation_made_again_replaces_the_one_before(tmp_path: Path):
    for step, mean in ((10, 0.25), (10, 0.5), (20, 0.75)):
        board = TensorBoard(tmp_path, step)
        board.evaluation(step, evaluation(mean))
        board.close()
    assert values(tmp_path / "eval", "meta_test/plain/reward") == [(10, 0.5), (20, 0.75)]
    assert values(tmp_path / "eval", "meta_test/plain/best_sgd/steps_to_halve") == [(10, 0.5), (20, 0.75)]
    assert len(events(tmp_path / "eval").Images("meta_test/plain/learning_curve")) == 2
    assert len(events(tmp_path / "eval").Images("meta_test/plain/learning_curve_odd")) == 2


def test_runs_are_compared_by_what_is_there():
    logged = [{"step": 1, "loss": 9.0}, {"step": 2, "loss": 1.0, "bits": None, "gradient_norm": 3.0, "bits/a": 4.0}]
    compared = compared_by(logged, {"plain": evaluation(0.5).summary})
    assert list(compared) == ["meta_train/loss", "meta_train/bits", "meta_test/plain/reward"]
    assert (compared["meta_train/loss"], compared["meta_test/plain/reward"]) == (1.0, 0.5)
    assert np.isnan(compared["meta_train/bits"])
    assert compared_by([], {}) == {}


def test_everything_before_a_checkpoint_is_on_disk_when_the_process_is_killed(tmp_path: Path):
    """A resumed run does not write it again, so what waits in a queue would be missing for ever."""
    board = TensorBoard(tmp_path, 0)
    for step in range(1, 51):
        board.scalars(step, {"loss": 1.0, "accuracy": 0.5})
    board.flush()
    assert [step for step, _ in values(tmp_path / "train", "meta_train/accuracy")] == list(range(1, 51))
    board.close()


def test_a_full_disk_is_one_line_and_no_hang(tmp_path: Path, monkeypatch):
    board = TensorBoard(tmp_path, 0)
    board.scalars(1, {"loss": 1.0})

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(EventsWriter, "write_event", full)
    for step in range(2, 50):  # more than a queue would hold
        with pytest.raises(UserError, match=r"train: cannot be written \(No space left on device\): free space"):
            board.scalars(step, {"loss": 1.0})
    monkeypatch.undo()
    board.close()


def test_histograms_hold_every_parameter(tmp_path: Path):
    board = TensorBoard(tmp_path, 0)
    params = {"gates": {"w": jnp.asarray([-2.0, 0.0, 0.5, 1e-9, 3e5])}, "zero": jnp.zeros(3)}
    board.plots(7, {"accuracy_curve": np.linspace(0, 1, 40)}, params)
    board.close()
    read = events(tmp_path / "train")
    (event,) = read.Histograms("parameters/gates/w")
    histogram = event.histogram_value
    assert (event.step, histogram.num, histogram.min, histogram.max) == (7, 5, -2.0, 3e5)
    assert sum(histogram.bucket) == 5
    assert read.Histograms("parameters/zero")[0].histogram_value.num == 3


def test_parameters_that_have_diverged_are_shown(tmp_path: Path):
    board = TensorBoard(tmp_path, 0)
    board.plots(1, {"accuracy_curve": np.zeros(3)}, {"w": jnp.full(4, -3e38)})
    board.close()
    (event,) = events(tmp_path / "train").Histograms("parameters/w")
    assert event.histogram_value.num == 4
    assert event.histogram_value.max < -1e19


def test_learning_curves_are_pictures(tmp_path: Path):
    board = TensorBoard(tmp_path, 0)
    line = np.linspace(0, 1, 40)
    board.plots(1, {"accuracy_curve/a": line, "accuracy_curve/b": line[:9], "reward": 50 * line}, {})
    board.close()
    read = events(tmp_path / "train")
    assert set(read.Tags()["images"]) == {"meta_train/learning_curve", "meta_train/reward"}
    (event,) = read.Images("meta_train/learning_curve")
    picture = matplotlib.image.imread(io.BytesIO(event.encoded_image_string))
    assert picture.shape[:2] == (event.height, event.width) == (300, 500)
    assert picture[..., :3].min() < 0.5 < picture[..., :3].max()


@pytest.fixture(scope="module")
def resumed(compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps in two parts, the second of which starts before the end of the first's metrics."""
    directory = tmp_path_factory.mktemp("board") / "run"
    arguments = (*ES, *NO_EVALUATORS, "train.log_every=1", "train.plot_every=2", "train.checkpoint_every=2")
    train(directory, *arguments, "STEPS=4")
    shutil.rmtree(directory / "checkpoints" / "4")
    train(directory, *arguments, "STEPS=6")
    return directory


def test_a_run_shows_all_it_logs(resumed: Path):
    read, logged = events(resumed / "train"), metrics(resumed)
    names = {*logged[0], "lifetimes_per_second", "seconds"} - {"step"}
    assert set(read.Tags()["scalars"]) == {f"meta_train/{name}" for name in names}
    for tag in ("loss", "smoothed_loss", "gradient_norm", "skipped"):
        expected = [(entry["step"], pytest.approx(entry[tag], rel=1e-6)) for entry in logged]
        assert values(resumed / "train", f"meta_train/{tag}") == expected
    assert [event.step for event in read.Images("meta_train/learning_curve")] == [2, 4, 6]
    histograms = [tag for tag in read.Tags()["histograms"] if tag.startswith("parameters/")]
    assert len(histograms) == 6  # weights and offsets of the gates and of either message
    assert [event.step for event in read.Histograms(histograms[0])] == [2, 4, 6]


def test_the_config_is_there_as_text_and_for_comparison(resumed: Path):
    read = events(resumed)
    (text,) = read.Tensors("config.gin/text_summary")
    shown = text.tensor_proto.string_val[0].decode()
    lines = [line.removeprefix("    ") for line in shown.splitlines()]
    assert lines == (resumed / "config.gin").read_text().splitlines()
    assert set(read.Tags()["tensors"]) >= {"config.gin/text_summary"}
    content = read.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    hparams = plugin_hparams_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    macros = json.loads((resumed / "config.json").read_text())["macros"]
    assert set(hparams) == {name for name, value in macros.items() if isinstance(value, int | float | str)}
    assert hparams["POPULATION"].number_value == 4
    assert values(resumed, "meta_train/loss") == [(6, pytest.approx(metrics(resumed)[-1]["loss"]))]  # what is compared
    assert hparams["META_OPTIMIZER"].string_value == "@meta_optimizers.ES()"


def test_the_end_of_a_run_stands_beside_its_hyperparameters(resumed: Path):
    """Where TensorBoard looks for the metrics of its HPARAMS tab, whatever directory it was started on."""
    read, last = events(resumed), metrics(resumed)[-1]
    assert set(read.Tags()["scalars"]) == {"meta_train/loss", "meta_train/accuracy"}
    assert values(resumed, "meta_train/loss") == [(6, pytest.approx(last["loss"], rel=1e-6))]
    content = read.SummaryMetadata("_hparams_/experiment").plugin_data.content
    infos = plugin_hparams_pb2.HParamsPluginData.FromString(content).experiment.metric_infos
    named = [(info.name.group, info.name.tag) for info in infos]
    assert named == [("", "meta_train/loss"), ("", "meta_train/accuracy")]


def test_a_run_under_way_does_not_say_what_runs_are_compared_by(tmp_path: Path):
    """It does not know yet, and TensorBoard would believe it for all runs."""
    board = TensorBoard(tmp_path, 0)
    board.config("text", {"LENGTH": 5})
    board.close()
    read = events(tmp_path)
    assert read.SummaryMetadata("_hparams_/session_start_info").plugin_data.plugin_name == "hparams"
    with pytest.raises(KeyError):
        read.SummaryMetadata("_hparams_/experiment")
