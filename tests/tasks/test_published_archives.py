"""Published data sets in formats of their own: small files of the same make, written here; Omniglot also as it is."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from matplotlib.image import imsave
from scipy.io import savemat

from vsml.errors import UserError
from vsml.tasks import FewShot, base
from vsml.tasks.sources import CIFAR10, EMNIST, SVHN, Omniglot, cifar10, emnist, omniglot, svhn

RNG = np.random.default_rng(0)
REAL = Path(os.environ.get("VSML_DATA_DIR", "nowhere"))
needs_omniglot = pytest.mark.skipif(
    not (REAL / "omniglot/images_background_small1.zip").is_file(),
    reason="VSML_DATA_DIR does not hold the small background set of Omniglot",
)


@pytest.fixture(autouse=True)
def fresh_cache():
    base._load_once.cache_clear()
    yield
    base._load_once.cache_clear()


@pytest.fixture
def put(tmp_path, monkeypatch):
    """Writes the bytes of a data set's file where it is looked for, and makes their hash the published one."""

    def write(module, data, split=None):
        file = module.FILE if split is None else module.FILES[split]
        monkeypatch.setenv("VSML_DATA_DIR", str(tmp_path))
        path = tmp_path / file.folder / file.name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        known = replace(file, md5=hashlib.md5(data).hexdigest())
        if split is None:
            monkeypatch.setattr(module, "FILE", known)
        else:
            monkeypatch.setitem(module.FILES, split, known)
        return path

    return write


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def check_refused(source, message, path):
    with pytest.raises(UserError, match=message) as error:
        source.load()
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


UPRIGHT = RNG.integers(0, 256, (4, 2, 3), np.uint8)


def emnist_files(labels=(0, 61, 35, 10)):
    names = ("gzip/emnist-byclass-test-images-idx3-ubyte.gz", "gzip/emnist-byclass-test-labels-idx1-ubyte.gz")
    arrays = (UPRIGHT.swapaxes(1, 2), np.array(labels, np.uint8))
    return {name: gzip.compress(idx(array)) for name, array in zip(names, arrays, strict=True)}


def test_emnist_is_turned_upright(put):
    put(emnist, zipped({**emnist_files(), "gzip/emnist-letters-test-labels-idx1-ubyte.gz": b"other"}))
    dataset = EMNIST("test").load()
    np.testing.assert_array_equal(dataset.x[..., 0], UPRIGHT)
    assert dataset.y.tolist() == [0, 61, 35, 10]
    assert (dataset.num_classes, dataset.mean, dataset.std) == (62, 0.17392, 0.33191)
    assert EMNIST("test[:1]").load().num_classes == 62


def test_emnist_faults_are_named(put):
    files = emnist_files()
    images, labels = files
    check_refused(EMNIST("test"), "holds no file .*labels-idx1", put(emnist, zipped({images: files[images]})))
    broken = {**files, labels: files[labels][:-9]}
    check_refused(EMNIST("test"), r"labels-idx1-ubyte\.gz is a corrupt gzip file", put(emnist, zipped(broken)))
    check_refused(EMNIST("test"), "is a corrupt zip file", put(emnist, zipped(files)[:-30]))
    check_refused(EMNIST("test"), "is a corrupt zip file", put(emnist, b"<html>moved</html>"))
    put(emnist, zipped(emnist_files(labels=(0, 62, 1, 2))))
    with pytest.raises(UserError, match="EMNIST: the largest label is 62, but 62 classes are known"):
        EMNIST("test").load()


_Pickler: Any = vars(pickle)["_Pickler"]  # the one in Python, which can be made to write otherwise


class _OfPython2(_Pickler):
    """Pickles as Python 2 with an old NumPy did: byte strings, integers for truth values, NumPy's former names."""

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, (bytes, str)):
            data = obj if isinstance(obj, bytes) else obj.encode()
            self.write(b"T" + struct.pack("<i", len(data)) + data)
        elif isinstance(obj, bool):
            super().save(int(obj))
        else:
            super().save(obj)

    def save_global(self, obj: Any, name: str | None = None) -> None:
        module = "numpy.core.multiarray" if obj.__name__ == "_reconstruct" else "numpy"
        self.write(f"c{module}\n{obj.__name__}\n".encode())

    dispatch: ClassVar = {**_Pickler.dispatch, type(np.empty(0).__reduce__()[0]): save_global, type: save_global}


def of_python2(content):
    buffer = io.BytesIO()
    _OfPython2(buffer, protocol=2).dump(content)
    return buffer.getvalue()


def tarred(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


COLOURED = RNG.integers(0, 256, (6, 32, 32, 3), np.uint8)
ROWS = COLOURED.transpose(0, 3, 1, 2).reshape(6, 3072)


def test_cifar10_batches_of_python_2_are_read_in_order(put):
    batches = {
        f"data_batch_{i + 1}": of_python2({"data": ROWS[i : i + 1], "labels": [i + 3], "batch_label": "x"})
        for i in reversed(range(5))  # in whatever order the archive holds them
    }
    test = of_python2({"data": ROWS[3:], "labels": [9, 0, 1]})
    put(cifar10, tarred({"readme.html": b"<html>", "test_batch": test, **batches}))
    train = CIFAR10("train").load()
    np.testing.assert_array_equal(train.x, COLOURED[:5])
    assert train.y.tolist() == [3, 4, 5, 6, 7]
    assert (train.num_classes, train.mean, train.std) == (10, 0.47336, 0.25157)
    test = CIFAR10("test[1:]").load()
    np.testing.assert_array_equal(test.x, COLOURED[4:])
    assert test.y.tolist() == [0, 1]


class _Code:
    def __reduce__(self):
        return os.mkdir, ("never",)


def test_cifar10_faults_are_named_and_no_pickle_runs_code(put, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def refused(message, **files):
        check_refused(CIFAR10("test"), message, put(cifar10, tarred(files)))

    whole = of_python2({"data": ROWS, "labels": [0] * 6})
    refused(r"asks for \w+\.mkdir, which no array needs", test_batch=pickle.dumps({"data": _Code(), "labels": [1]}))
    assert not (tmp_path / "never").exists()
    refused("holds no file cifar-10-batches-py/test_batch", other=whole)
    refused("no batch of CIFAR10", test_batch=whole[:-40])
    refused("no batch of CIFAR10 .KeyError: 'labels'", test_batch=of_python2({"data": ROWS}))
    refused(
        r"data must be uint8 \[n, 3072\], not uint8 \[6, 3071\]",
        test_batch=of_python2({"data": ROWS[:, 1:], "labels": [0]}),
    )
    check_refused(CIFAR10("test"), "is a corrupt tar file", put(cifar10, tarred({"test_batch": whole})[:-60]))
    check_refused(CIFAR10("test"), "is a corrupt tar file", put(cifar10, b"<html>"))


def mat(**arrays):
    buffer = io.BytesIO()
    savemat(buffer, arrays, do_compression=True)
    return buffer.getvalue()


def test_svhn_counts_examples_last_and_calls_zero_ten(put):
    data = mat(X=COLOURED.transpose(1, 2, 3, 0), y=np.array([[10], [1], [9], [10], [2], [3]], np.uint8))
    put(svhn, data, "test")
    dataset = SVHN("test").load()
    np.testing.assert_array_equal(dataset.x, COLOURED)
    assert dataset.y.tolist() == [0, 1, 9, 0, 2, 3]
    assert (dataset.num_classes, dataset.mean, dataset.std) == (10, 0.45142, 0.19929)


def test_svhn_faults_are_named(put):
    data = mat(X=COLOURED.transpose(1, 2, 3, 0), y=np.ones((6, 1)))
    check_refused(SVHN("test"), "is no readable mat file", put(svhn, data[:-200], "test"))
    check_refused(SVHN("test"), "is no readable mat file", put(svhn, b"<html>moved</html>", "test"))
    check_refused(SVHN("test"), "has no variable 'y'", put(svhn, mat(X=COLOURED), "test"))
    check_refused(SVHN("test"), r"X must be \[height", put(svhn, mat(X=np.ones((2, 2)), y=np.ones((2, 1))), "test"))


def png(drawing):
    """The bytes of a grey png of an array of bytes."""
    rows = b"".join(b"\0" + row.tobytes() for row in drawing)  # each row unfiltered
    header = struct.pack(">IIBBBBB", drawing.shape[1], drawing.shape[0], 8, 0, 0, 0, 0)

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_omniglot_averages_what_a_pixel_covers(put):
    drawing = np.full((105, 105), 255, np.uint8)
    drawing[0, 0] = 0  # wholly in pixel (0, 0), which covers 3.75 x 3.75
    drawing[3, 10:12] = 0  # a quarter of its height in row 0: columns 10 and 1/4 of 11 in pixel 2, the rest in pixel 3
    files = {
        "set/Greek/character02/a.png": png(np.full((56, 56), 255, np.uint8)),
        "set/Greek/character01/b.png": png(drawing),
        "set/Arcadian/character01/c.png": png(np.zeros((105, 105), np.uint8)),
        "__MACOSX/set/Greek/character01/._b.png": b"",
        "set/readme.txt": b"",
    }
    put(omniglot, zipped(files), "evaluation")
    dataset = Omniglot("evaluation").load()
    assert dataset.x.shape == (3, 28, 28, 1)
    assert dataset.y.tolist() == [0, 1, 2]  # by alphabet, then character
    assert (dataset.mean, dataset.std) == (0.92206, 0.26808)
    area = 3.75**2
    expected = np.full((28, 28), 255.0)
    expected[0, 0] *= 1 - 1 / area
    expected[0, 2] *= 1 - 0.75 * 1.25 / area
    expected[1, 2] *= 1 - 0.25 * 1.25 / area
    expected[0, 3] *= 1 - 0.75 * 0.75 / area
    expected[1, 3] *= 1 - 0.25 * 0.75 / area
    np.testing.assert_array_equal(dataset.x[..., 0], [np.zeros((28, 28)), np.rint(expected), np.full((28, 28), 255)])


ALPHABETS = {"A/c1": 0, "B/c1": 60, "C/c1": 120, "C/c2": 180}


@pytest.fixture
def put_alphabets(put):
    """Writes a small set of one grey drawing per character."""
    files = {f"set/{name}/a.png": png(np.full((28, 28), grey, np.uint8)) for name, grey in ALPHABETS.items()}
    put(omniglot, zipped(files), "background_small1")


@pytest.mark.usefixtures("put_alphabets")
@pytest.mark.parametrize(
    ("split", "without", "greys"),
    [("", ("B",), [0, 120, 180]), ("", ("C", "A"), [60]), ("[1:]", ("A",), [120, 180]), ("", (), [0, 60, 120, 180])],
)
def test_omniglot_without_some_alphabets(split, without, greys):
    dataset = Omniglot(f"background_small1{split}", without=without).load()
    assert dataset.x[:, 0, 0, 0].tolist() == greys
    assert len(set(dataset.y.tolist())) == len(greys)


@pytest.mark.usefixtures("put_alphabets")
@pytest.mark.parametrize(
    ("without", "message"),
    [
        (("A", "D"), r"without names 'D', but images_background_small1.zip holds A, B, C: name one of these"),
        (("A", "B", "C"), "without leaves out every alphabet: keep one"),
    ],
)
def test_omniglot_without_names_alphabets_that_are_there(without, message):
    with pytest.raises(UserError, match=message):
        Omniglot("background_small1", without=without).load()


def test_omniglot_turned_by_quarters(put):
    drawing = np.full((28, 28), 255, np.uint8)
    drawing[2, 5] = 0
    files = {"set/A/c1/a.png": png(drawing), "set/A/c2/a.png": png(np.full((28, 28), 100, np.uint8))}
    put(omniglot, zipped(files), "evaluation")
    dataset = Omniglot("evaluation", quarter_turns=True).load()
    assert dataset.y.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert dataset.num_classes == 8
    # Against the clock: (row, column) goes to (27 - column, row).
    ink = [tuple(int(i) for i in np.argwhere(image == 0)[0]) for image in dataset.x[::2, :, :, 0]]
    assert ink == [(2, 5), (22, 2), (25, 22), (5, 25)]
    assert (dataset.x[1::2] == 100).all()


TURNED = Omniglot("background_small1", quarter_turns=True)
OTHERS = Omniglot("background_small2", without=("Greek", "Latin"))


def test_what_omniglot_holds_out_shares_no_alphabet_and_is_not_turned():
    assert TURNED.held_out() == OTHERS
    assert OTHERS.held_out() == Omniglot("background_small1", without=("Greek", "Latin"))
    assert Omniglot("background", quarter_turns=True).held_out() == Omniglot("evaluation")
    assert replace(TURNED, split="background_small1[:-520]").held_out() == Omniglot("background_small1[-520:]")


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        (TURNED, OTHERS, "other split"),
        (TURNED, Omniglot("background_small1"), "examples"),
        (TURNED, Omniglot("background_small2"), "examples"),
        (OTHERS, Omniglot("background"), "examples"),
        (OTHERS, Omniglot("evaluation"), "other split"),
        (Omniglot("background_small1[:40]"), Omniglot("background_small1[40:]", quarter_turns=True), "other split"),
        (OTHERS, EMNIST(), "nothing"),
    ],
)
def test_what_parts_of_omniglot_have_in_common(one, other, overlap):
    assert one.overlap(other) == overlap
    assert other.overlap(one) == overlap


@needs_omniglot
def test_the_small_sets_of_omniglot_share_two_alphabets():
    def drawings(source):
        return {image.tobytes() for image in source.load().x}

    first = drawings(TURNED)
    assert len(first & drawings(Omniglot("background_small2"))) == 1000
    assert not first & drawings(OTHERS)


def test_omniglot_faults_are_named(put):
    buffer = io.BytesIO()
    imsave(buffer, COLOURED[0], format="png")
    drawing = png(COLOURED[0, :, :, 0])

    def refused(message, data):
        check_refused(Omniglot("background"), message, put(omniglot, data, "background"))

    refused("holds no png files", zipped({"readme.txt": b""}))
    refused(r"set/A/c1/a\.png is no readable png file", zipped({"set/A/c1/a.png": drawing[:-40]}))
    refused("is a picture in colour", zipped({"set/A/c1/a.png": buffer.getvalue()}))
    refused("is a corrupt zip file", zipped({"set/A/c1/a.png": drawing}).replace(drawing[30:40], b"0123456789"))


@pytest.mark.parametrize(
    ("source", "module", "split"),
    [
        (EMNIST(), emnist, None),
        (CIFAR10(), cifar10, None),
        (SVHN(), svhn, "train"),
        (Omniglot(), omniglot, "background"),
    ],
)
def test_other_bytes_than_published_are_refused(source, module, split, put, monkeypatch):
    file = module.FILE if split is None else module.FILES[split]
    path = put(module, b"something", split)
    if split is None:
        monkeypatch.setattr(module, "FILE", file)
    else:
        monkeypatch.setitem(module.FILES, split, file)
    check_refused(source, f"is corrupt .its MD5 is not {file.md5}", path)


@needs_omniglot
def test_real_omniglot():
    dataset = Omniglot("background_small1").load()
    assert dataset.x.shape == (2720, 28, 28, 1)
    assert dataset.num_classes == 136
    assert np.bincount(dataset.y).tolist() == [20] * 136
    # Averaging keeps the mean of the drawings; black ink on white is about 8 % of a drawing.
    assert dataset.x.mean() / 255 == pytest.approx(0.92, abs=0.02)
    distribution = FewShot(Omniglot("background_small1[:2000]"), ways=20)
    assert distribution.spec.num_inputs == 784
    with pytest.raises(UserError, match=r"needs 101 classes .* has 100"):
        _ = FewShot(Omniglot("background_small1[:2000]"), ways=101).spec
