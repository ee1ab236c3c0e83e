"""The contracts of stego methods."""

from functools import partial
from typing import Any

import jax
import numpy as np

from ghostjax import toy
from ghostjax.base import Bytes, Context, Images, Params, Stego
from ghostjax.pixels import as_bytes, as_float
from ghostjax.records import StegoRecord
from ghostjax.testing.fits import (
    Factory,
    built,
    check_file,
    check_images,
    check_others,
    check_traces,
    runs,
    turns_of,
)
from ghostjax.testing.judge import Judge, equal, host, judge_of

__all__ = [
    "check_stego",
]

_BATCH = 4  # images that hide


def check_stego(
    record: StegoRecord,
    *,
    factory: Factory | None = None,
    images: Bytes | None = None,
    steps: int = 2,
) -> None:
    """Whether a stego method keeps its contracts; see the module.

    A method with `low_bits` promises more: its stego is the cover with these bits
    replaced by the secret's highest, and what it reveals are these, to the bit.

    Args:
      record: the member's record.
      factory: `factory(image_shape, record, context)`, or "module:function"; None: the
        registered one.
      images: uint8 [N, H, W, C], at least 8; None: the toy's.
      steps: of every training; 0: nothing is trained, and that trainings share their
        programs is read off what they are made of.

    Raises:
      AssertionError: one line, of the first contract that is broken.
      ValueError: no record, or what the member itself refuses.
    """
    judge = judge_of("stego", record, StegoRecord, steps)
    check_file(judge, record)
    pixels = toy.pictures() if images is None else np.asarray(images)
    context = Context(train_count=len(pixels))
    stego = built(judge, record, factory, pixels.shape[1:], context)
    judge.require(isinstance(stego, Stego), "shape", f"the factory gives {stego!r}")

    def show(params: Params, covers: Images, secrets: Images) -> tuple[Images, Images]:
        hidden = stego.hide(params, covers, secrets)
        return hidden, stego.reveal(params, hidden)

    shown = jax.jit(show)
    covers, secrets = as_float(pixels[:_BATCH]), as_float(pixels[_BATCH : 2 * _BATCH])
    turn, other = turns_of(record, jax.device_put(pixels))
    turn = turn._replace(inputs=(covers, secrets))
    other = other._replace(inputs=(secrets, covers))
    params, (hidden, revealed) = runs(
        judge, stego.fit, lambda params, turn: shown(params, *turn.inputs), turn, other
    )
    check_images(judge, "hide", hidden, covers.shape)
    check_images(judge, "reveal", revealed, covers.shape)
    check_traces(judge, show, params, turn.inputs)
    with judge.keeping("purity", "vmap over members' params"):
        many = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), host(params))
        jax.eval_shape(jax.vmap(show, (0, None, None)), many, covers, secrets)
    check_others(judge, partial(shown, params), turn.inputs)
    judge.require(
        not equal(shown(params, covers, covers), (hidden, revealed)),
        "shape",
        "other secrets give the same stegos: nothing is hidden",
    )
    _check_low_bits(judge, stego.low_bits(params), turn.inputs, (hidden, revealed))


def _check_low_bits(
    judge: Judge, bits: int, inputs: tuple[Any, ...], shown: tuple[Any, ...]
) -> None:
    whole = isinstance(bits, int) and 0 <= bits <= 7
    judge.require(whole, "shape", f"low_bits gives {bits!r}, not 0 to 7")
    if not bits:
        return
    covers, secrets, stegos, revealed = (
        np.asarray(as_bytes(np.asarray(images))) for images in (*inputs, *shown)
    )
    top = secrets >> (8 - bits)
    for words, first, second in (
        ("low bits of stegos are not the secret's high ones", stegos % 2**bits, top),
        ("high bits of stegos are not the cover's", stegos >> bits, covers >> bits),
        ("revealed pixels are not the secret's high bits", revealed, top << 8 - bits),
    ):
        wrong = int((first != second).sum())
        judge.require(not wrong, "shape", f"{wrong} of {first.size} {words}")
