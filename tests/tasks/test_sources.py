"""The sources by name: embedded, made here, and published files."""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from vsml.errors import UserError
from vsml.tasks import base
from vsml.tasks.sources import (
    CIFAR10,
    EMNIST,
    KMNIST,
    MNIST,
    SVHN,
    CsvFile,
    Digits,
    FashionMNIST,
    IdxFiles,
    Iris,
    NpzFiles,
    Omniglot,
    Random,
    SumSign,
    kmnist,
    mnist,
)
from vsml.tasks.sources.files import PublishedFile

REAL = Path(os.environ.get("VSML_DATA_DIR", "nowhere"))
needs_mnist = pytest.mark.skipif(
    not (REAL / "mnist/t10k-images-idx3-ubyte.gz").is_file(), reason="VSML_DATA_DIR does not hold the MNIST test files"
)
needs_kmnist = pytest.mark.skipif(
    not (REAL / "kmnist/kmnist-test-imgs.npz").is_file(), reason="VSML_DATA_DIR does not hold the KMNIST test files"
)


@pytest.fixture(autouse=True)
def fresh_cache():
    """What was read from one data directory is not seen by a test with another."""
    base._load_once.cache_clear()
    yield
    base._load_once.cache_clear()


@pytest.fixture
def no_network(monkeypatch):
    import pooch

    def refuse(*args, **kwargs):
        raise ConnectionError("no network")

    monkeypatch.setattr(pooch, "retrieve", refuse)


def test_digits_are_the_known_ones():
    dataset = Digits().load()
    assert dataset.x.shape == (1797, 8, 8, 1)
    assert dataset.x.dtype == np.float32
    assert dataset.y.dtype == np.int32
    assert dataset.num_classes == 10
    assert dataset.x.min() == 0.0
    assert dataset.x.max() == 1.0
    # Counts of the classes as the data set's description lists them.
    assert np.bincount(dataset.y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    np.testing.assert_array_equal(dataset.x[0, 0, :, 0] * 16, [0, 0, 5, 13, 9, 1, 0, 0])
    np.testing.assert_allclose([dataset.x.mean(), dataset.x.std()], [dataset.mean, dataset.std], rtol=1e-5)


def test_digits_are_those_that_scikit_learn_gives():
    """They are read from its file, without importing it."""
    pixels, labels = load_digits(return_X_y=True)
    dataset = Digits().load()
    np.testing.assert_array_equal(dataset.x.reshape(-1, 64) * 16, pixels)
    np.testing.assert_array_equal(dataset.y, labels)


def test_digits_train_and_test_are_the_two_halves():
    whole, train, test = (Digits(split).load() for split in ("all", "train", "test"))
    assert len(train.x) == 898
    assert len(test.x) == 899
    np.testing.assert_array_equal(np.concatenate([train.x, test.x]), whole.x)
    np.testing.assert_array_equal(np.concatenate([train.y, test.y]), whole.y)
    np.testing.assert_array_equal(Digits("test[:300]").load().x, whole.x[898:1198])
    np.testing.assert_array_equal(Digits("all[100:500]").load().y, whole.y[100:500])
    np.testing.assert_array_equal(Digits("train[-8:]").load().y, whole.y[890:898])


def test_a_wrong_split_is_refused():
    with pytest.raises(UserError, match="use one of all, train, test"):
        Digits("valid").load()
    with pytest.raises(UserError, match="use one of train, test"):
        MNIST("all").load()


def test_random_is_fixed_noise():
    dataset = Random().load()
    assert dataset.x.shape == (20, 28, 28, 1)
    assert dataset.x.dtype == np.float32
    assert dataset.num_classes == 10
    assert (dataset.mean, dataset.std) == (0.0, 1.0)
    # 15,680 standard normal numbers: the mean has standard error 0.008, the standard deviation 0.0057.
    assert abs(dataset.x.mean()) < 0.04
    assert abs(dataset.x.std() - 1.0) < 0.03
    assert not np.array_equal(dataset.x, Random(seed=1).load().x)
    np.testing.assert_array_equal(dataset.x, Random(seed=0).read().x)
    counts = np.bincount(Random(num_examples=10_000).load().y, minlength=10)
    assert np.sum((counts - 1000) ** 2 / 1000) < 27.9  # chi-square, 9 degrees of freedom, p = 0.001


def test_sum_sign_labels_the_sign_of_the_sum():
    dataset = SumSign(num_examples=4000, image_shape=(4, 4, 1)).load()
    sums = dataset.x.astype(np.float64).sum(axis=(1, 2, 3))
    np.testing.assert_array_equal(dataset.y, sums >= 0)
    assert dataset.num_classes == 2
    assert abs(dataset.y.mean() - 0.5) < 0.04
    assert np.abs(dataset.x).max() <= 3.0  # |mean| <= 1 and noise cut at 2
    # Var = 1/3 of the mean + 1 - 4 phi(2) / (2 Phi(2) - 1) = 0.77374 of the noise.
    assert dataset.x.var() == pytest.approx(1 / 3 + 0.77374, abs=0.04)
    np.testing.assert_array_equal(dataset.x, SumSign(num_examples=4000, image_shape=(4, 4, 1)).read().x)


@pytest.mark.parametrize("make", [lambda: Random(num_examples=0), lambda: SumSign(image_shape=(0, 3))])
def test_sizes_below_one_are_refused(make):
    with pytest.raises(UserError, match="at least 1"):
        make()


def test_equal_sources_are_read_once_and_are_read_only():
    dataset = Random(seed=3).load()
    assert Random(seed=3).load() is dataset
    with pytest.raises(ValueError, match="read-only"):
        dataset.x[0] = 0.0


@pytest.mark.parametrize(
    "source",
    [
        *(Digits("test"), MNIST(), FashionMNIST(), KMNIST(), IdxFiles("a", "b"), NpzFiles("a"), Random(), SumSign()),
        *(EMNIST(), CIFAR10(), SVHN(), Omniglot(), Iris("test[:5]"), CsvFile("a", label="kind")),
    ],
)
def test_sources_are_values(source):
    assert pickle.loads(pickle.dumps(source)) == source
    assert hash(source) == hash(pickle.loads(pickle.dumps(source)))


@needs_mnist
def test_real_mnist():
    dataset = MNIST("test").load()
    assert dataset.x.shape == (10_000, 28, 28, 1)
    assert dataset.x.dtype == np.uint8
    assert dataset.y[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]  # the well-known first digits
    assert (dataset.mean, dataset.std, dataset.num_classes) == (0.13066, 0.30811, 10)
    np.testing.assert_array_equal(MNIST("test[8000:]").load().x, dataset.x[8000:])
    by_path = IdxFiles("mnist/t10k-images-idx3-ubyte.gz", "mnist/t10k-labels-idx1-ubyte.gz").load()
    np.testing.assert_array_equal(by_path.x, dataset.x)
    assert by_path.mean == pytest.approx(dataset.x.mean() / 255)
    assert by_path.std == pytest.approx(dataset.x.std() / 255)


@needs_kmnist
def test_real_kmnist(no_network):
    dataset = KMNIST("test").load()
    assert dataset.x.shape == (10_000, 28, 28, 1)
    assert dataset.x.dtype == np.uint8
    assert np.bincount(dataset.y).tolist() == [1000] * 10  # the test set is balanced
    assert (dataset.mean, dataset.std) == (0.19176, 0.34834)
    by_path = NpzFiles("kmnist/kmnist-test-imgs.npz", "kmnist/kmnist-test-labels.npz").load()
    np.testing.assert_array_equal(by_path.x, dataset.x)


@needs_kmnist
def test_half_of_the_npz_pair_is_refused(no_network, tmp_path, monkeypatch):
    monkeypatch.setenv("VSML_DATA_DIR", str(tmp_path))
    (tmp_path / "kmnist").mkdir()
    shutil.copy(REAL / "kmnist/kmnist-test-imgs.npz", tmp_path / "kmnist")
    with pytest.raises(UserError, match=r"kmnist-test-labels\.npz of kmnist is missing beside"):
        KMNIST("test").load()


@pytest.mark.parametrize(
    ("source", "file"),
    [
        (MNIST("test"), "t10k-images-idx3-ubyte.gz"),
        (FashionMNIST("test"), "t10k-images-idx3-ubyte.gz"),
        (KMNIST("test"), "t10k-images-idx3-ubyte.gz"),
        (EMNIST("test"), "gzip.zip"),
        (CIFAR10("test"), "cifar-10-python.tar.gz"),
        (SVHN("test"), "test_32x32.mat"),
        (Omniglot("evaluation"), "images_evaluation.zip"),
    ],
)
@pytest.mark.parametrize("data_dir", [None, "elsewhere"])
def test_without_files_and_network_the_mend_is_named(no_network, monkeypatch, source, file, data_dir):
    monkeypatch.delenv("VSML_DATA_DIR", raising=False)
    if data_dir:
        monkeypatch.setenv("VSML_DATA_DIR", data_dir)
    with pytest.raises(UserError) as error:
        source.load()
    message = str(error.value)
    assert file in message
    assert "http" in message
    assert "VSML_DATA_DIR" in message
    assert (data_dir or "not set") in message
    assert "\n" not in message


@pytest.mark.parametrize("files", [mnist.FILES, kmnist.FILES, kmnist.NPZ_FILES])
def test_a_corrupt_file_is_named_and_left_alone(no_network, tmp_path, monkeypatch, files):
    monkeypatch.setenv("VSML_DATA_DIR", str(tmp_path))
    file = files["test"][0]
    path = tmp_path / file.folder / file.name
    path.parent.mkdir()
    path.write_bytes(gzip.compress(b"not a data set"))
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"is corrupt .*replace it, or remove it"):
        (MNIST if file.folder == "mnist" else KMNIST)("test").load()
    assert path.read_bytes() == before


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A folder that stands for the network, and a fresh cache to download to."""
    import pooch

    def download(url, output_file, _):
        path = tmp_path / url.removeprefix("https://")
        if not path.is_file():
            raise ConnectionError(url)
        shutil.copy(path, output_file)

    (tmp_path / "mirror").mkdir()
    monkeypatch.delenv("VSML_DATA_DIR", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr(pooch.core, "choose_downloader", lambda *args, **kwargs: download)
    return tmp_path / "mirror"


def test_downloads_try_the_mirrors_and_are_kept(published):
    (published / "a.bin").write_bytes(b"hello")
    file = PublishedFile("set", "a.bin", hashlib.md5(b"hello").hexdigest(), ("https://gone/", "https://mirror/"))
    path = file.fetch()
    assert path.read_bytes() == b"hello"
    assert "cache" in path.parts
    (published / "a.bin").unlink()
    assert file.fetch() == path  # from the cache


def test_a_file_without_a_published_hash_is_downloaded_too(published):
    (published / "a.bin").write_bytes(b"hello")
    assert PublishedFile("set", "a.bin", None, ("https://mirror/",)).fetch().read_bytes() == b"hello"


def test_a_download_of_other_bytes_is_refused(published):
    (published / "a.bin").write_bytes(b"hullo")
    file = PublishedFile("set", "a.bin", hashlib.md5(b"hello").hexdigest(), ("https://mirror/",))
    with pytest.raises(UserError, match=r"a\.bin of set is missing.*ValueError"):
        file.fetch()
