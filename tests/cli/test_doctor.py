"""`vsml doctor`: what a bug report needs, what is missing, and nothing that is nobody's business."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from runs import call

from vsml import __version__
from vsml.cli import doctor
from vsml.config import parts
from vsml.errors import UserError
from vsml.tasks.sources.files import Missing, PublishedFile, offline
from vsml.tasks.sources.kmnist import NPZ_FILES


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a data folder of a tiny KMNIST and a damaged MNIST, and caches."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("VSML_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MY_PASSWORD", "swordfish")
    desk = tmp_path / "desk"
    for folder in ("data/kmnist", "data/mnist", "cache/vsml/omniglot", "cache/vsml/compiled", "desk"):
        (tmp_path / folder).mkdir(parents=True)
    images, labels = NPZ_FILES["train"]
    np.savez(tmp_path / "data" / "kmnist" / images.name, np.zeros((30, 28, 28), np.uint8))
    np.savez(tmp_path / "data" / "kmnist" / labels.name, np.arange(30) % 10)
    (tmp_path / "data" / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(b"other bytes")
    (tmp_path / "cache" / "vsml" / "omniglot" / "half.zip").write_bytes(b"1234")
    monkeypatch.chdir(desk)
    return tmp_path


def rows(text: str) -> dict[str, str]:
    """Name -> what is said of it, on one line each."""
    flat = re.sub(r"\n {2,}", " ", text)
    return dict(re.split(r"  +", line, maxsplit=1) for line in flat.splitlines() if "  " in line)


def test_what_a_bug_report_needs(capfd: pytest.CaptureFixture[str], here: Path):
    outcome = call(capfd, "doctor")
    assert (outcome.code, outcome.err) == (0, "")
    found = rows(outcome.out)
    assert found["vsml"].startswith(__version__)
    for name in ("jax", "jaxlib", "optax", "orbax-checkpoint", "numpy", "scikit-learn"):
        assert f"{name} {importlib.metadata.version(name)}" in found["packages"]
    assert f"pytest {importlib.metadata.version('pytest')}" in found["extra dev"]
    assert found["devices"].startswith(f"{len(jax.devices())} cpu (")
    assert found["VSML_DATA_DIR"] == "~/data"
    assert found["XLA_FLAGS"]
    assert found["downloads"] == "~/cache/vsml/omniglot: 1 file(s), 4 B"
    assert re.fullmatch(r"~/desk/runs: writable, [\d.e+]+ .iB free", found["runs"])
    embedded = {name: found[f"data {name}"] for name in ("Digits", "Iris", "Wine", "BreastCancer")}
    assert embedded == {"Digits": "all 1,797", "Iris": "all 150", "Wine": "all 178", "BreastCancer": "all 569"}
    assert found["data KMNIST"] == "train 30"
    assert max(map(len, outcome.out.splitlines())) <= 80


def test_what_is_missing_comes_with_its_mend(capfd: pytest.CaptureFixture[str]):
    missing = [line for line in re.sub(r"\n  +", " ", call(capfd, "doctor").out).splitlines() if "missing: " in line]
    text = "\n".join(missing)
    assert "train-images-idx3-ubyte.gz is corrupt (its MD5 is not" in text
    assert "KMNIST (test)" in text
    for name in ("CIFAR10", "EMNIST", "FashionMNIST", "SVHN"):
        assert f"{name} (train, test)" in text
    assert "Omniglot (background, evaluation, background_small1, background_small2)" in text
    assert "they are downloaded when they are used" in text


def test_nothing_else_of_the_environment_is_told(capfd: pytest.CaptureFixture[str], here: Path):
    out = call(capfd, "doctor").out
    assert "swordfish" not in out
    assert str(here) not in out


def test_it_ends_well_whatever_is_wrong(capfd: pytest.CaptureFixture[str], here: Path, monkeypatch):
    def refuse() -> None:
        raise RuntimeError("no such\nbackend")

    monkeypatch.setattr(jax, "devices", refuse)
    monkeypatch.setenv("VSML_DATA_DIR", "/no/such/folder")
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    monkeypatch.setattr(doctor, "LITTLE", 1 << 80)
    monkeypatch.setattr(doctor.metadata, "requires", absent)
    monkeypatch.setattr(doctor.metadata, "metadata", absent)
    outcome = call(capfd, "doctor")
    assert outcome.code == 0
    flat = re.sub(r"\n  +", " ", outcome.out)
    assert rows(outcome.out)["devices"] == "none: no such backend"
    for text in (
        "missing: JAX finds no devices: look at JAX_PLATFORMS",
        "missing: VSML_DATA_DIR is /no/such/folder, which is not a folder: make it",
        "missing: ~/desk cannot be written: work in another folder",
        "of disk space is free here",
    ):
        assert text in flat


def absent(name: str) -> None:
    raise importlib.metadata.PackageNotFoundError(name)


def test_it_takes_no_arguments(capfd: pytest.CaptureFixture[str]):
    assert call(capfd, "doctor", "runs").err == "vsml: doctor takes no arguments, not runs\n"


def test_every_data_set_is_looked_for():
    """Of all sources but those that need a file of the user's own or make their examples up."""
    looked = {part.name for part in parts("sources") if dict(doctor._examples(part.make))}
    others = {part.name for part in parts("sources")} - looked
    assert others == {f"sources.{name}" for name in ("CsvFile", "IdxFiles", "NpzFiles", "Random", "SumSign")}


def test_nothing_is_downloaded_offline(here: Path):
    file = PublishedFile("somewhere", "there.gz", "0" * 32, ("https://example.invalid/",))
    with offline(), pytest.raises(Missing, match=r"there.gz of somewhere is not on this machine"):
        file.fetch()
    kept = here / "cache" / "vsml" / "somewhere"
    kept.mkdir()
    (kept / "there.gz").write_bytes(b"other bytes")
    with offline(), pytest.raises(UserError, match="is corrupt"):
        file.fetch()
