"""Pseudo-random order without replacement, with no state and no stored permutation.

`epoch_indices` reads a batch out of an endless stream: epoch 0's permutation of
range(n), then epoch 1's, and so on, nothing dropped in between. The permutation is
evaluated only at the batch's positions, so a step costs the same for any n, and it
depends on (key, step) alone, so a resumed run repeats its draws.

Source: Hoang, Morris, Rogaway, "An Enciphering Scheme Based on a Card Shuffle", CRYPTO
2012 (swap-or-not). In each round the cards x and (pivot - x) mod n change
places on a coin that both know. We deviate in the coin: the keyed random function is
an integer hash of the higher card, salted per round, good enough for sampling and not
for secrecy; and in stopping after `ROUNDS` rounds, far fewer than their proof asks for.
"""

from functools import partial
from math import gcd
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from ghostjax import runtime

__all__ = ["ROUNDS", "Stream", "epoch_indices", "stream"]

ROUNDS = 32  # a card that no round has moved: probability 2^-32
_UNROLL = 8  # rounds written out on an accelerator, where each turn is a kernel


class Stream(NamedTuple):
    """How many there are to draw from, as an argument of a program; see `stream`."""

    n: ArrayLike  # uint32, the size of the data
    steps: ArrayLike  # uint32, after which batches and epochs begin together again
    epochs: ArrayLike  # uint32, the epochs of so many steps
    touched: ArrayLike  # uint32 [most epochs that a batch touches], 0, 1, …


def stream(n: int, batch: int) -> Stream:
    """The numbers that `epoch_indices` needs of a size that is not static.

    Args:
      n: size of the data.
      batch: indices per step.

    Raises:
      ValueError: `batch` or `n` is below 1, or too large for arithmetic in 32 bits.
    """
    if batch < 1 or n < 1:
        raise ValueError(f"cannot draw {batch} of {n} indices: both must be at least 1")
    common = gcd(batch, n)
    if n >= 2**31 or batch * (n // common) + batch >= 2**32:
        raise ValueError(
            f"batch {batch} of n {n}: their least common multiple passes 2^32; take a "
            "batch that shares a larger factor with n, or fewer data"
        )
    touched = np.arange((batch - 1) // n + 2, dtype=np.uint32)
    return Stream(
        n=np.uint32(n),
        steps=np.uint32(n // common),
        epochs=np.uint32(batch // common),
        touched=touched,
    )


def epoch_indices(key: Array, step: Array | int, batch: int, n: int | Stream) -> Array:
    """The indices that step `step` draws from range(n).

    Args:
      key: the key of the run, the same at every step; only folded.
      step: int32 or uint32 scalar, from 0; traced.
      batch: indices per step; static; may exceed n.
      n: size of the data: static, or `stream(n, batch)`.

    Returns:
      int32 [batch] in [0, n): positions step * batch + arange(batch) of the stream.

    Guarantees:
      Positions e * n to (e + 1) * n - 1 hold each index once (epoch e's permutation).
      Positions are exact at every step of 32 bits, though step * batch needs more.
      (Epoch numbers wrap, and orders repeat, after 2^32 epochs.)

    Raises:
      ValueError: see `stream`.
    """
    data = n if isinstance(n, Stream) else stream(n, batch)
    return _epoch_indices(key, step, batch, data)


@partial(jax.jit, static_argnames=("batch",))
def _epoch_indices(key: Array, step: Array | int, batch: int, data: Stream) -> Array:
    epochs, offsets, places = _positions(step, batch, data)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, epochs)
    salts = jax.vmap(lambda epoch: jax.random.bits(epoch, (ROUNDS, 2)))(keys)
    return _shuffle(places, salts[offsets], data.n).astype(jnp.int32)


def _positions(
    step: Array | int, batch: int, data: Stream
) -> tuple[Array, Array, Array]:
    """(epochs that the batch touches [E], which of them [batch], place in it [batch]).

    The stream's division into steps and epochs repeats every lcm(batch, n) positions;
    counting from the last repetition keeps step * batch below 2^32.
    """
    step = jnp.asarray(step).astype(jnp.uint32)
    positions = step % data.steps * jnp.uint32(batch)
    positions += jnp.arange(batch, dtype=jnp.uint32)
    first = positions[0] // data.n
    epochs = step // data.steps * data.epochs + first + data.touched
    return epochs, positions // data.n - first, positions % data.n


def _shuffle(places: Array, salts: Array, size: ArrayLike) -> Array:
    """The permutation of range(size) that `salts` [batch, ROUNDS, 2] name, at `places`.

    A loop of the compiled program: written out, several shuffles fused into one step
    cost XLA minutes to compile (jax 0.11 and later; exponential in the rounds). On an
    accelerator a few rounds are: 256 indices took 229 us with none and 39 us so, of
    which 9 us are the scan around it (H200).
    """

    def turn(x: Array, salt: Array) -> tuple[Array, None]:
        pivot = salt[:, 0] % size
        partner = jnp.where(pivot >= x, pivot - x, pivot + (size - x))
        coin = _hash(jnp.maximum(x, partner) ^ salt[:, 1]) >> 31
        return jnp.where(coin == 1, partner, x), None

    unroll = 1 if runtime.on_cpu() else _UNROLL
    return lax.scan(turn, places, salts.swapaxes(0, 1), unroll=unroll)[0]


def _hash(x: Array) -> Array:
    """A bijection of uint32 that flips each output bit half the time (C. Wellons)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x21F0AAAD)
    x = (x ^ (x >> 15)) * jnp.uint32(0xD35A2D97)
    return x ^ (x >> 15)
