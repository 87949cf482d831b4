"""Tables: the embedded ones and CSV files."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_iris

from vsml.errors import UserError
from vsml.tasks.sources import BreastCancer, CsvFile, Iris, Wine


@pytest.mark.parametrize(
    ("source", "features", "train", "test"),
    [  # halves of the classes' sizes, as the tables' descriptions list them; the odd row is for training
        (Iris, 4, [25, 25, 25], [25, 25, 25]),  # 50, 50, 50
        (Wine, 13, [30, 36, 24], [29, 35, 24]),  # 59, 71, 48
        (BreastCancer, 30, [106, 179], [106, 178]),  # 212, 357
    ],
)
def test_embedded_tables_are_standardised_and_halved(source, features, train, test):
    whole, first, second = (source(split).load() for split in ("all", "train", "test"))
    assert np.bincount(first.y).tolist() == train
    assert np.bincount(second.y).tolist() == test
    assert whole.x.shape == (sum(train) + sum(test), features)
    assert {part.x.dtype for part in (whole, first, second)} == {np.dtype("float32")}
    assert (first.mean, first.std, first.num_classes) == (0.0, 1.0, len(train))
    np.testing.assert_allclose(first.x.mean(axis=0, dtype=np.float64), 0.0, atol=1e-6)
    np.testing.assert_allclose(first.x.std(axis=0, dtype=np.float64), 1.0, atol=1e-6)
    rows = sorted(map(bytes, np.concatenate([first.x, second.x])))
    assert rows == sorted(map(bytes, whole.x))  # the same numbers in every split
    assert source("test[:3]").load().num_classes == len(train)


def test_iris_by_hand():
    raw, _ = load_iris(return_X_y=True)
    every_other = raw[::2]  # classes of 50 rows one after another
    expected = (raw - every_other.mean(axis=0)) / every_other.std(axis=0)
    np.testing.assert_allclose(Iris().load().x, expected, rtol=1e-5)
    np.testing.assert_allclose(Iris("test").load().x, expected[1::2], rtol=1e-5)


CSV = """size, kind , "weight, g"
1,b,10

3,a,10
5,b,10
"""


@pytest.fixture
def write(tmp_path):
    def make(text, **fields):
        path = tmp_path / "table.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return CsvFile(str(path), **fields)

    return make


def test_a_csv_file_by_hand(write):
    dataset = write(CSV, label="kind").load()
    assert dataset.y.tolist() == [1, 0, 1]  # a, b
    assert (dataset.num_classes, dataset.mean, dataset.std) == (2, 0.0, 1.0)
    # The training half is the first row of each class: sizes 1 and 3, mean 2, deviation 1; weight is constant.
    np.testing.assert_allclose(dataset.x, [[-1, 0], [1, 0], [3, 0]])


def test_the_test_half_of_a_csv_file(write):
    dataset = write(CSV + "9,a,10\n", label="kind", split="test").load()
    np.testing.assert_allclose(dataset.x, [[3, 0], [7, 0]])
    assert (dataset.y.tolist(), dataset.num_classes) == ([1, 0], 2)


@pytest.mark.parametrize(
    ("text", "fields", "labels"),
    [
        (CSV, {"label": 1}, [1, 0, 1]),
        (CSV, {"label": -2}, [1, 0, 1]),
        ("1;2;-3\n4;5;10\n7;8;-3", {"header": False, "delimiter": ";"}, [0, 1, 0]),
        ("x,y\n1,10\n2,9\n3,9.0\n", {}, [1, 0, 0]),  # as numbers, not as text
        ("x,y\n1,10\n2,9\n3,no\n", {}, [0, 1, 2]),  # as text
        ("\ufeffy,x\r\nno,1\r\nyes,2\r\n", {"label": "y"}, [0, 1]),
    ],
)
def test_labels_become_classes(write, text, fields, labels):
    assert write(text, **fields).load().y.tolist() == labels


@pytest.mark.parametrize(
    ("text", "fields", "message"),
    [
        ("", {}, "is empty"),
        ("x,y\n", {}, "has 0 examples of 2 columns"),
        ("y\n1\n", {}, "has 1 examples of 1 columns"),
        ("x,y\n1,2\n\n3\n", {}, "line 4: 1 columns instead of 2"),
        ("x,y\n1,2\n ,3\n", {}, "line 3: column 'x' is empty"),
        ("x,y\n1,2\n4,\n", {}, "line 3: column 'y' is empty"),
        ("x,y\n1,2\nabc,3\n", {}, "line 3: column 'x' is 'abc', not a finite number"),
        ("x,y\n1,2\nNaN,3\n", {}, "line 3: column 'x' is 'NaN', not a finite number"),
        ("1,2\n1e999,3\n", {"header": False}, "line 2: column '0' is '1e999', not a finite number"),
        ("x,y\n1,2\n-1e300,3\n", {}, r"a feature is 1e\+300, which 32 bits cannot hold"),
        ("x,y\n1,2\n", {"label": "z"}, "has no column 'z', but x, y"),
        ("x,x\n1,2\n", {"label": "x"}, "has more than one column 'x'"),
        ("x,y\n1,2\n", {"label": 2}, "has 2 columns: .* cannot be 2"),
        ("1,2\n", {"label": "y", "header": False}, "has no header"),
        (
            "x,y\n1,2\n",
            {"split": "test"},
            "class 0 .* has one example, so that nothing of it can be held out",
        ),
        ("x,y\n1,2\n3,2\n4,7\n", {"split": "train"}, "class 1 .* has one example"),
        (
            "1,2\n3,2\n",
            {},
            "line 1: the first line should name the columns, but holds numbers alone: add",
        ),
        ("x,y\n1,2\n", {"split": "valid"}, "use one of all, train, test"),
        (b"x,y\n\xff,2\n", {}, "is not a CSV file in UTF-8"),
        ('x,y\n"1,2\n', {}, "is not a CSV file in UTF-8"),
        ("x,y\n1,2\n", {"delimiter": ""}, "delimiter is ''"),
    ],
)
def test_csv_faults_are_named(write, text, fields, message):
    with pytest.raises(UserError, match=message) as error:
        write(text, **fields).load()
    assert "\n" not in str(error.value)
    assert "table.csv" in str(error.value) or "split 'valid'" in str(error.value) or "delimiter" in str(error.value)


def test_a_missing_csv_file_is_named():
    with pytest.raises(UserError, match=r"'nowhere\.csv' does not exist"):
        CsvFile("nowhere.csv").load()
