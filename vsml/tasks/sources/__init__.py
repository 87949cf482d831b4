"""Where labelled examples come from; one file per source."""

from __future__ import annotations

from vsml.tasks.sources.digits import Digits
from vsml.tasks.sources.fashion_mnist import FashionMNIST
from vsml.tasks.sources.idx import IdxFiles
from vsml.tasks.sources.kmnist import KMNIST
from vsml.tasks.sources.mnist import MNIST
from vsml.tasks.sources.npz import NpzFiles
from vsml.tasks.sources.random_images import Random
from vsml.tasks.sources.sum_sign import SumSign

__all__ = ["KMNIST", "MNIST", "Digits", "FashionMNIST", "IdxFiles", "NpzFiles", "Random", "SumSign"]
