"""A random order of any number of things, computed place by place: O(n) for n places however many things there are.

Sorting random numbers costs time and memory for all examples of a data set, in every lifetime, to use a few hundred of
them. The swap-or-not shuffle is a random bijection evaluated only where it is needed, and its size may be traced:

    round r:  partner = (K_r - i) mod N;  i <- partner where bit_r(max(i, partner)) else i

Each round pairs all places at random and swaps each pair by the toss of a coin. About 6 log2 N rounds make it secure
against an adversary who has seen most of it, which is far more than fair sampling needs; 96 are that for N = 65,536.

Source: Hoang, Morris, Rogaway, "An enciphering scheme based on a card shuffle", CRYPTO 2012, arXiv 1208.1176. The coins
come from an integer hash whose keys are drawn by `jax.random`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from vsml.types import Array, Key

_ROUNDS = 96


def shuffled(key: Key, places: Array, size: Array | int) -> Array:
    """What stands at each place of an endless sequence of fresh random orders of 0..size-1.

    Places 0..size-1 are one random order, the next `size` places another, and so on.

    Args:
      key: the randomness of the whole sequence.
      places: int32 [n], from 0.
      size: scalar integer, at least 1; may be traced.

    Returns:
      int32 [n] in 0..size-1.
    """
    size = jnp.asarray(size, jnp.uint32)
    places = places.astype(jnp.uint32)
    epoch, start = places // size, places % size

    def swap_or_not(index: Array, keys: Array) -> tuple[Array, None]:
        pivot = _hash(epoch + keys[0]) % size
        partner = jnp.where(pivot >= index, pivot - index, pivot + size - index)
        coin = _hash(_hash(epoch + keys[1]) ^ jnp.maximum(index, partner)) >> 31
        return jnp.where(coin == 1, partner, index), None

    keys = jax.random.bits(key, (_ROUNDS, 2), jnp.uint32)
    index, _ = jax.lax.scan(swap_or_not, start, keys, unroll=8)
    return index.astype(jnp.int32)


def _hash(x: Array) -> Array:
    """A bijection of uint32: each input bit flips each output bit half of the time (Wellons' lowbias32)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
