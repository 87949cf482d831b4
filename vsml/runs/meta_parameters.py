"""V_M as arrays by name, and the file that holds them: what a checkpoint keeps beside its state, and what is exported.

    params.0.gates.w -> [20, 16] float32, ...       one array per leaf, named by its path
    about            -> JSON as bytes: sha256 of the arrays and further information

The file is an .npz without pickles: numpy alone reads it.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vsml.runs.files import DAMAGE
from vsml.types import Params

ABOUT = "about"


@dataclass(frozen=True)
class MetaParameters:
    """Arrays by name, without the structure of their tree, which the learner knows."""

    arrays: Mapping[str, np.ndarray]
    about: Mapping[str, Any] = field(default_factory=dict)  # JSON

    @classmethod
    def of(cls, params: Params, about: Mapping[str, Any] | None = None) -> MetaParameters:
        """Takes the leaves of a tree, whole in this process."""
        arrays = {name: np.asarray(jax.device_get(_local(leaf))) for name, leaf in by_name(params, "params").items()}
        return cls(arrays, about or {})

    @classmethod
    def read(cls, path: Path) -> MetaParameters:
        """Reads what `to_bytes` gave. Raises `ValueError` for a file that is missing, damaged or of another kind."""
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                about = json.loads(file[ABOUT].item())
                types, digest = about.pop("types"), about.pop("sha256")
                # numpy reads types that are not its own, such as bfloat16, as bare bytes.
                arrays = {name: file[name].view(np.dtype(types[name])) for name in file.files if name != ABOUT}
        except DAMAGE as error:
            raise ValueError(" ".join(str(error).split())[:120] or type(error).__name__) from None
        if cls(arrays).sha256 != digest:
            raise ValueError("its numbers are not those that were saved")
        return cls(arrays, about)

    @property
    def sha256(self) -> str:
        """Digest of names, types, shapes and numbers."""
        digest = hashlib.sha256()
        for name, array in sorted(self.arrays.items()):
            digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return digest.hexdigest()

    def mismatch(self, like: Params) -> str:
        """The first difference from a tree of arrays or shapes: name and both shapes of a leaf; empty if alike."""
        wanted = by_name(like, "params")
        for name in sorted(self.arrays.keys() | wanted.keys()):
            saved = _form(self.arrays[name]) if name in self.arrays else "nothing"
            asked = _form(wanted[name]) if name in wanted else "nothing"
            if saved != asked:
                return f"{name} is saved as {saved}, the learner wants {asked}"
        return ""

    def fill(self, like: Params) -> Params:
        """A tree of host arrays in the form of `like`. Raises `ValueError` with the `mismatch`."""
        if mismatch := self.mismatch(like):
            raise ValueError(mismatch)
        return jax.tree.unflatten(jax.tree.structure(like), [self.arrays[name] for name in by_name(like, "params")])

    def to_bytes(self) -> bytes:
        """The content of the file."""
        types = {name: str(array.dtype) for name, array in self.arrays.items()}
        about = json.dumps({**self.about, "sha256": self.sha256, "types": types})
        buffer = io.BytesIO()
        np.savez(buffer, **{ABOUT: np.asarray(about.encode()), **self.arrays})  # pyright: ignore[reportArgumentType]
        return buffer.getvalue()


def by_name(tree: Any, root: str = "") -> dict[str, Any]:
    """Path -> leaf, as in `params.0.gates.w`, in the order of the tree. Raises `ValueError` for equal paths."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    paths = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    found = {".".join(filter(None, (root, path))): leaf for path, (_, leaf) in zip(paths, leaves, strict=True)}
    if len(found) < len(leaves):
        raise ValueError("two leaves have the same path: keys of meta-parameters must not contain dots")
    return found


def _local(leaf: Any) -> Any:
    """A replicated global array as this process has it."""
    return leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf


def _form(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"
