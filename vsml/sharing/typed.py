"""One set of meta-parameters, and a learned embedding of every neuron type that sub-RNNs receive beside the messages.

    s_ab(k) <- f( s_ab(k), [fwd_a(k), t_k], [bwd_b(k), t_k+1] )       V_M = (theta, t_1, ..., t_K+1)

The type of a neuron is the layer it is in: input, hidden 1, ..., output.

Source: the type embeddings of Gregor 2020, arXiv 2003.03124, put to use on the messages of Kirsch & Schmidhuber 2021,
arXiv 2012.14905. That the layer is the type is our reading.
"""

from __future__ import annotations

from dataclasses import dataclass

from vsml.errors import UserError
from vsml.sharing.shared import Shared


@dataclass(frozen=True)
class Typed(Shared):
    """One set for all sub-RNNs, told apart by the types of the neurons they connect.

    Attributes:
      embedding_size: length of the embedding of a type.
    """

    embedding_size: int = 4

    def __post_init__(self) -> None:
        if self.embedding_size < 1:
            raise UserError(
                f"sharing.Typed.embedding_size is {self.embedding_size}: set it to 1 or more; without is sharing.Shared"
            )

    @property
    def type_size(self) -> int:
        return self.embedding_size
