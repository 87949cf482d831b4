"""metrics.jsonl and TensorBoard's event file, read back by TensorBoard's own reader."""
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
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from vsml.errors import UserError
from vsml.evaluation import Evaluation, Measure, Picture, Rival
from vsml.training.event_file import EventFile, _head
from vsml.training.learning_curves import _figure
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


LOSS = "headline/loss/meta-training"


def test_no_step_of_a_resumed_run_appears_twice(tmp_path: Path):
    log(tmp_path, 0, range(1, 6), 1.0)
    log(tmp_path, 3, range(4, 8), 2.0)
    log(tmp_path, 6, range(7, 9), 3.0)
    steps = [1, 2, 3, 4, 5, 6, 7, 8]
    assert values(tmp_path, LOSS) == list(zip(steps, [1, 1, 1, 2, 2, 2, 3, 3], strict=True))
    assert len(events(tmp_path).Tensors("config.gin/text_summary")) == 1
    *before, _ = sorted(tmp_path.iterdir())
    assert [path.stat().st_size for path in before] == [0], "one event file, and what an open TensorBoard leaves"


def test_a_run_killed_before_its_first_checkpoint_starts_over(tmp_path: Path):
    log(tmp_path, 0, range(1, 6), 1.0)
    log(tmp_path, 0, range(1, 3), 2.0)
    assert values(tmp_path, LOSS) == [(1, 2.0), (2, 2.0)]


def test_a_tensorboard_that_is_open_shows_each_step_once(tmp_path: Path):
    log(tmp_path, 0, range(1, 6), 1.0)
    read = events(tmp_path)
    assert [event.step for event in read.Scalars(LOSS)] == [1, 2, 3, 4, 5]
    log(tmp_path, 3, range(4, 8), 2.0)
    read.Reload()
    shown = [(event.step, event.value) for event in read.Scalars(LOSS)]
    assert shown == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2), (7, 2)]
    log(tmp_path, 7, range(8, 9), 3.0)
    assert [event.step for event in read.Reload().Scalars(LOSS)] == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("lost", [1, 7, 20])
def test_an_event_cut_short_is_left_out(tmp_path: Path, lost: int):
    log(tmp_path, 0, range(1, 4), 1.0)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-lost])
    log(tmp_path, 3, range(4, 5), 2.0)
    assert values(tmp_path, LOSS) == [(1, 1.0), (2, 1.0), (4, 2.0)]


@pytest.mark.parametrize("rest", [bytes(40), b"\xff" * 40, b"\3", _head(8) + b"\xff" * 12])
def test_what_is_no_event_is_left_out(tmp_path: Path, rest: bytes):
    log(tmp_path, 0, range(1, 4), 1.0)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes() + rest)
    log(tmp_path, 3, range(4, 5), 2.0)
    assert [step for step, _ in values(tmp_path, LOSS)] == [1, 2, 3, 4]


def test_of_two_files_that_a_crash_left_the_newer_counts(tmp_path: Path):
    """It was written whole before the older one is removed."""
    log(tmp_path, 0, range(1, 4), 1.0)
    (file,) = tmp_path.iterdir()
    older = file.read_bytes()
    log(tmp_path, 3, range(4, 6), 2.0)
    file.write_bytes(older)
    log(tmp_path, 4, range(5, 6), 3.0)
    assert values(tmp_path, LOSS) == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 3.0)]


def test_what_is_kept_is_copied_whole_or_not_at_all(tmp_path: Path, monkeypatch):
    log(tmp_path, 0, range(1, 4), 1.0)
    (file,) = tmp_path.iterdir()
    before = file.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(UserError, match="No space left on device"):
            log(tmp_path, 3, range(4, 6), 2.0)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]


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
    for tag in ("headline/reward/plain", "meta_test/steps_to_halve/plain", "rivals/steps_to_halve/plain/best_sgd"):
        assert values(tmp_path, tag) == [(10, 0.5), (20, 0.75)]
    assert len(events(tmp_path).Images("learning_curves/correct/plain")) == 2
    assert len(events(tmp_path).Images("learning_curves/odd/plain")) == 2


def test_an_evaluation_made_again_leaves_what_meta_training_wrote_at_that_step(tmp_path: Path):
    for mean in (0.25, 0.5):
        board = TensorBoard(tmp_path, 10 if mean == 0.5 else 0)
        if mean == 0.25:
            board.scalars(10, {"loss": 1.0, "gradient_norm": 2.0})
            board.plots(10, {"accuracy_curve": np.linspace(0, 1, 40)}, {"w": jnp.ones(3)})
        board.evaluation(10, evaluation(mean))
        board.close()
    assert values(tmp_path, LOSS) == [(10, 1.0)]
    assert values(tmp_path, "meta_train/gradient_norm") == [(10, 2.0)]
    assert values(tmp_path, "headline/reward/plain") == [(10, 0.5)]
    read = events(tmp_path)
    assert len(read.Images("learning_curves/accuracy/meta-training")) == len(read.Histograms("parameters/w")) == 1


def test_tensorboard_opens_on_what_matters(tmp_path: Path):
    """It sorts groups by name, and shows the first ones."""
    board = TensorBoard(tmp_path, 0)
    board.scalars(1, {"loss": 1.0, "accuracy": 0.5, "loss/a": 1.0, "smoothed_loss": 1.0, "seconds": 3.0})
    board.plots(1, {"accuracy_curve": np.zeros(3)}, {"w": jnp.ones(3)})
    board.evaluation(1, evaluation(0.5))
    board.close()
    tags = events(tmp_path).Tags()
    found = sorted(tag for kind in ("scalars", "images", "histograms") for tag in tags[kind])
    groups = list(dict.fromkeys(tag.partition("/")[0] for tag in found))
    assert groups == ["headline", "learning_curves", "meta_test", "meta_train", "parameters", "rivals"]
    first = [tag for tag in found if tag.startswith("headline")]
    assert first == ["headline/accuracy/meta-training", LOSS, "headline/reward/plain"]


def test_runs_are_compared_by_what_is_there():
    logged = [{"step": 1, "loss": 9.0}, {"step": 2, "loss": 1.0, "bits": None, "gradient_norm": 3.0, "bits/a": 4.0}]
    assert compared_by(logged, {"plain": evaluation(0.5).summary}) == {
        "headline/reward/plain": "plain: reward",
        "headline/loss/meta-training": "meta-training: loss",
        "headline/bits/meta-training": "meta-training: bits",
    }
    assert compared_by([], {}) == {}


def test_everything_before_a_checkpoint_is_on_disk_when_the_process_is_killed(tmp_path: Path):
    """A resumed run does not write it again, so what waits in a queue would be missing for ever."""
    board = TensorBoard(tmp_path, 0)
    for step in range(1, 51):
        board.scalars(step, {"loss": 1.0, "accuracy": 0.5})
    board.flush()
    assert [step for step, _ in values(tmp_path, "headline/accuracy/meta-training")] == list(range(1, 51))
    board.close()


def test_a_full_disk_is_one_line_and_no_hang(tmp_path: Path, monkeypatch):
    board = TensorBoard(tmp_path, 0)
    board.scalars(1, {"loss": 1.0})

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(EventFile, "_append", full)
    for step in range(2, 50):  # more than a queue would hold
        with pytest.raises(UserError, match=r"cannot be written \(No space left on device\): free space"):
            board.scalars(step, {"loss": 1.0})
    monkeypatch.undo()
    board.close()


def test_histograms_hold_every_parameter(tmp_path: Path):
    board = TensorBoard(tmp_path, 0)
    params = {"gates": {"w": jnp.asarray([-2.0, 0.0, 0.5, 1e-9, 3e5])}, "zero": jnp.zeros(3)}
    board.plots(7, {"accuracy_curve": np.linspace(0, 1, 40)}, params)
    board.close()
    read = events(tmp_path)
    (event,) = read.Histograms("parameters/gates/w")
    histogram = event.histogram_value
    assert (event.step, histogram.num, histogram.min, histogram.max) == (7, 5, -2.0, 3e5)
    assert sum(histogram.bucket) == 5
    assert read.Histograms("parameters/zero")[0].histogram_value.num == 3


def test_parameters_that_have_diverged_are_shown(tmp_path: Path):
    board = TensorBoard(tmp_path, 0)
    board.plots(1, {"accuracy_curve": np.zeros(3)}, {"w": jnp.full(4, -3e38)})
    board.close()
    (event,) = events(tmp_path).Histograms("parameters/w")
    assert event.histogram_value.num == 4
    assert event.histogram_value.max < -1e19


def test_learning_curves_are_pictures(tmp_path: Path):
    board = TensorBoard(tmp_path, 0)
    line = np.linspace(0, 1, 40)
    board.plots(1, {"accuracy_curve/a": line, "accuracy_curve/b": line[:9], "reward": 50 * line}, {})
    board.close()
    read = events(tmp_path)
    tags = {"learning_curves/accuracy/meta-training", "learning_curves/reward/meta-training"}
    assert set(read.Tags()["images"]) == tags
    (event,) = read.Images("learning_curves/accuracy/meta-training")
    picture = matplotlib.image.imread(io.BytesIO(event.encoded_image_string))
    assert picture.shape[:2] == (event.height, event.width) == (420, 600)
    assert picture[..., :3].min() < 0.5 < picture[..., :3].max()


def test_rows_of_images_are_shown_and_kept_with_the_curves(tmp_path: Path):
    values = np.ones((2, 3, 4, 4)) * np.array([-1.0, 1.0]).reshape(2, 1, 1, 1)
    found = Evaluation("faces", {"loss": np.ones(2)}, "loss", pictures={"recalls": Picture(values, ("black", "white"))})
    board = TensorBoard(tmp_path, 0)
    board.evaluation(5, found)
    board.close()
    (event,) = events(tmp_path).Images("pictures/recalls/faces")
    pixels = matplotlib.image.imread(io.BytesIO(event.encoded_image_string))[..., :3]
    upper, lower = pixels[len(pixels) // 3 : len(pixels) // 2], pixels[-len(pixels) // 4 :]
    assert (upper < 0.01).mean() > 0.3 > (lower < 0.01).mean()
    with np.load(found.save(tmp_path)) as kept:
        np.testing.assert_array_equal(kept["picture_recalls"], values)


def test_learning_curves_have_bands_and_chance():
    lifetimes = np.repeat([[0.2], [0.4], [0.6]], 40, axis=1)
    figure = _figure(
        {"learned": lifetimes, "flat": np.full(40, 0.5)}, "", Measure("accuracy", limits=(0, 1), chance=0.1)
    )
    (axes,) = figure.axes
    band = axes.collections[0].get_paths()[0].get_extents()
    # Values .2, .4, .6: mean .4, std .2, interval 4.302653 * .2 / sqrt(3) = .49683
    assert (band.y0, band.y1) == pytest.approx((0.4 - 0.49683, 0.4 + 0.49683), abs=1e-5)
    assert axes.get_ylim() == (0, 1)
    assert axes.get_legend_handles_labels()[1] == ["learned", "flat", "chance"]
    assert np.asarray(axes.get_lines()[-1].get_ydata()).tolist() == [0.1, 0.1]


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
    read, logged = events(resumed), metrics(resumed)
    names = {*logged[0], "lifetimes_per_second", "seconds"} - {"step", "loss", "accuracy"}
    headlines = {f"headline/{name}/meta-training" for name in ("loss", "accuracy")}
    assert set(read.Tags()["scalars"]) == {f"meta_train/{name}" for name in names} | headlines
    for name, tag in (("loss", LOSS), *((name, f"meta_train/{name}") for name in ("smoothed_loss", "skipped"))):
        expected = [(entry["step"], pytest.approx(entry[name], rel=1e-6)) for entry in logged]
        assert values(resumed, tag) == expected
    assert [event.step for event in read.Images("learning_curves/accuracy/meta-training")] == [2, 4, 6]
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
    hparams = HParamsPluginData.FromString(content).session_start_info.hparams
    macros = json.loads((resumed / "config.json").read_text())["macros"]
    assert set(hparams) == {name for name, value in macros.items() if isinstance(value, int | float | str)}
    assert hparams["POPULATION"].number_value == 4
    assert hparams["META_OPTIMIZER"].string_value == "meta_optimizers.ES"


def test_the_columns_of_hparams_are_scalars_of_the_same_run(resumed: Path):
    """Where TensorBoard looks for them, whatever directory it was started on; seed and steps are shown first."""
    read = events(resumed)
    content = read.SummaryMetadata("_hparams_/experiment").plugin_data.content
    experiment = HParamsPluginData.FromString(content).experiment
    first = sorted(experiment.hparam_infos, key=lambda info: (not info.differs, info.name))[:5]  # as TensorBoard does
    assert {"SEED", "STEPS"} <= {info.name for info in first}
    named = {(info.name.group, info.name.tag): info.display_name for info in experiment.metric_infos}
    assert named == {
        ("", LOSS): "meta-training: loss",
        ("", "headline/accuracy/meta-training"): "meta-training: accuracy",
    }
    assert {tag for _, tag in named} <= set(read.Tags()["scalars"])


def test_a_run_under_way_does_not_say_what_runs_are_compared_by(tmp_path: Path):
    """It does not know yet, and TensorBoard would believe it for all runs."""
    board = TensorBoard(tmp_path, 0)
    board.config("text", {"LENGTH": 5})
    board.close()
    read = events(tmp_path)
    assert read.SummaryMetadata("_hparams_/session_start_info").plugin_data.plugin_name == "hparams"
    with pytest.raises(KeyError):
        read.SummaryMetadata("_hparams_/experiment")
