"""Where labelled examples come from; one file per source."""

from __future__ import annotations

from vsml.tasks.sources.breast_cancer import BreastCancer
from vsml.tasks.sources.cifar10 import CIFAR10
from vsml.tasks.sources.csv_file import CsvFile
from vsml.tasks.sources.digits import Digits
from vsml.tasks.sources.emnist import EMNIST
from vsml.tasks.sources.fashion_mnist import FashionMNIST
from vsml.tasks.sources.idx import IdxFiles
from vsml.tasks.sources.iris import Iris
from vsml.tasks.sources.kmnist import KMNIST
from vsml.tasks.sources.mnist import MNIST
from vsml.tasks.sources.npz import NpzFiles
from vsml.tasks.sources.omniglot import Omniglot
from vsml.tasks.sources.random_images import Random
from vsml.tasks.sources.sum_sign import SumSign
from vsml.tasks.sources.svhn import SVHN
from vsml.tasks.sources.wine import Wine

__all__ = [
    "CIFAR10",
    "EMNIST",
    "KMNIST",
    "MNIST",
    "SVHN",
    "BreastCancer",
    "CsvFile",
    "Digits",
    "FashionMNIST",
    "IdxFiles",
    "Iris",
    "NpzFiles",
    "Omniglot",
    "Random",
    "SumSign",
    "Wine",
]
