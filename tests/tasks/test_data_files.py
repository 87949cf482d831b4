"""Reading idx and npz files, whole and broken."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

from vsml.errors import UserError
from vsml.tasks.sources import IdxFiles, NpzFiles
from vsml.tasks.sources.idx import read_idx
from vsml.tasks.sources.npz import read_npz

IMAGES = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
LABELS = np.array([0, 2, 1, 2], np.uint8)


def idx(array, code=0x08):
    """The bytes of an idx file."""
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write(path, data):
    path.write_bytes(data)
    return path


@pytest.fixture
def pair(tmp_path):
    images = write(tmp_path / "images.idx.gz", gzip.compress(idx(IMAGES), mtime=0))
    labels = write(tmp_path / "labels.idx", idx(LABELS))
    return str(images), str(labels)


@pytest.mark.parametrize(
    ("code", "dtype"), [(0x08, "u1"), (0x09, "i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")]
)
def test_every_type_of_number_is_read(tmp_path, code, dtype):
    array = np.array([[1, 2, 3], [4, 5, 100]], dtype)
    read = read_idx(write(tmp_path / "a", idx(array, code)))
    assert read.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(read, [[1, 2, 3], [4, 5, 100]])


def test_idx_pair_keeps_bytes_and_gets_a_channel(pair):
    dataset = IdxFiles(*pair).load()
    assert dataset.x.dtype == np.uint8
    assert dataset.y.dtype == np.int32
    assert dataset.num_classes == 3
    np.testing.assert_array_equal(dataset.x, IMAGES[..., None])
    np.testing.assert_array_equal(dataset.y, LABELS)
    assert dataset.mean == pytest.approx(11.5 / 255)
    assert dataset.std == pytest.approx(np.sqrt((24**2 - 1) / 12) / 255)  # of 0..23, uniform


def test_a_slice_keeps_the_number_of_classes(pair):
    dataset = IdxFiles(*pair, split="all[:1]").load()
    np.testing.assert_array_equal(dataset.y, [0])
    assert dataset.num_classes == 3
    assert dataset.mean == pytest.approx(2.5 / 255)


def test_relative_paths_are_looked_for_in_the_data_directory(pair, tmp_path, monkeypatch):
    monkeypatch.setenv("VSML_DATA_DIR", str(tmp_path))
    assert len(IdxFiles("images.idx.gz", "labels.idx").load().x) == 4


GZ = gzip.compress(idx(IMAGES), mtime=0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not an idx file"),
        (b"\x01\x02\x08\x01", "is not an idx file"),
        (b"\0\0\x07\x01\0\0\0\x01a", "is not an idx file"),
        (b"\0\0\x08\x03\0\0\0\x01", "truncated inside its header"),
        (idx(IMAGES)[:-1], "is corrupt: 39 bytes instead of 40"),
        (idx(IMAGES) + b"x", "is corrupt: 41 bytes instead of 40"),
        (GZ[:-9], "is a corrupt gzip file"),
        (GZ[:12] + bytes([GZ[12] ^ 0xFF]) + GZ[13:], "is a corrupt gzip file"),
        (GZ[:-6] + b"\0\0" + GZ[-4:], "is a corrupt gzip file"),
    ],
)
def test_a_broken_idx_file_is_named(tmp_path, data, message):
    with pytest.raises(UserError, match=message) as error:
        read_idx(write(tmp_path / "broken.idx", data))
    assert "broken.idx" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"'nowhere\.idx' does not exist.*VSML_DATA_DIR"):
        IdxFiles("nowhere.idx", "labels.idx").load()


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES, LABELS[:3], "4 images but 3 labels"),
        (IMAGES, LABELS[:, None], r"labels must be integers \[n\]"),
        (IMAGES, LABELS.astype(np.float32), r"labels must be integers \[n\]"),
        (IMAGES, LABELS.astype(np.int8) - 1, "smallest label is -1"),
        (IMAGES[:, 0, 0], LABELS, r"images must be numbers \[n, ...\]"),
        (IMAGES[:0], LABELS[:0], r"images must be numbers \[n, ...\]"),
        (np.where(IMAGES == 3, np.nan, IMAGES), LABELS, "NaN or infinity"),
        (np.where(IMAGES == 3, -1e300, IMAGES), LABELS, r"images hold 1e\+300, which 32 bits cannot hold"),
        (IMAGES, np.array([0, 1, 2**40, 2]), "largest of 4 labels is 1099511627776: labels count the classes"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, images, labels, message):
    np.savez(tmp_path / "a.npz", x=images, y=labels)
    with pytest.raises(UserError, match=message):
        NpzFiles(str(tmp_path / "a.npz"), images_key="x", labels_key="y").load()


def test_npz_pair_and_single_file_agree(tmp_path):
    np.savez(tmp_path / "x.npz", IMAGES)
    np.savez(tmp_path / "y.npz", LABELS)
    np.savez(tmp_path / "xy.npz", x=IMAGES, y=LABELS)
    pair = NpzFiles(str(tmp_path / "x.npz"), str(tmp_path / "y.npz")).load()
    single = NpzFiles(str(tmp_path / "xy.npz"), images_key="x", labels_key="y").load()
    np.testing.assert_array_equal(pair.x, IMAGES[..., None])
    np.testing.assert_array_equal(pair.x, single.x)
    np.testing.assert_array_equal(pair.y, single.y)


def test_npz_faults_are_named(tmp_path):
    np.savez(tmp_path / "x.npz", x=IMAGES)
    np.savez(tmp_path / "objects.npz", x=np.array([{}], object))
    np.save(tmp_path / "x.npy", IMAGES)
    whole = (tmp_path / "x.npz").read_bytes()
    write(tmp_path / "cut.npz", whole[:-30])
    write(tmp_path / "flipped.npz", whole.replace(IMAGES.tobytes(), IMAGES[::-1].tobytes()))
    write(tmp_path / "empty.npz", b"")
    write(tmp_path / "text.npz", b"hello")
    with pytest.raises(UserError, match="has no array 'y': it holds x"):
        read_npz(tmp_path / "x.npz", "y")
    with pytest.raises(UserError, match="is not an npz file"):
        read_npz(tmp_path / "x.npy", "x")
    for name in ("objects", "cut", "flipped", "empty", "text"):
        with pytest.raises(UserError, match=f"{name}.npz is a corrupt npz file or holds objects"):
            read_npz(tmp_path / f"{name}.npz", "x")


def test_integers_and_floats_are_kept_as_they_are(tmp_path):
    np.savez(tmp_path / "a.npz", x=IMAGES.astype(np.int16) * 100, y=LABELS)
    dataset = NpzFiles(str(tmp_path / "a.npz"), images_key="x", labels_key="y").load()
    assert dataset.x.dtype == np.float32
    np.testing.assert_array_equal(dataset.x[..., 0], IMAGES * np.float32(100))
    assert dataset.mean == pytest.approx(1150.0)
