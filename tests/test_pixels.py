"""The door of all that takes pictures: what comes in wrong is refused in one line."""

import jax
import numpy as np
import pytest

from ghostjax import registry
from ghostjax.base import Context
from ghostjax.evaluation import metrics
from ghostjax.pixels import require_pixels
from ghostjax.stego import lsb as low
from ghostjax.stego.records import Lsb, Nns

SHAPE = (12, 12, 1)
GOOD = np.random.default_rng(0).random((2, *SHAPE), np.float32)
BITS = {"bits": np.uint8(3)}
LSB, NNS = (
    registry.build(record, SHAPE, Context(train_count=8)) for record in (Lsb(), Nns())
)
HIDING = {
    "lsb, cover": lambda x: LSB.hide(BITS, x, GOOD),
    "lsb, secret": lambda x: LSB.hide(BITS, GOOD, x),
    "lsb, reveal": lambda x: LSB.reveal(BITS, x),
    "lsb, midpoint": lambda x: LSB.reader("midpoint")(BITS, x),
    "lsb, prior": lambda x: LSB.reader("prior")(BITS, x),
    "lsb, clues": lambda x: LSB.clues(BITS, x),
    "nns, cover": lambda x: NNS.hide(None, x, GOOD),
    "nns, secret": lambda x: NNS.hide(None, GOOD, x),
    "nns, reveal": lambda x: NNS.reveal(None, x),
}
COMPARING = {
    name: lambda x, metric=metric: metric(x, x)
    for name, metric in {
        "psnr": metrics.psnr,
        "ssim": metrics.ssim,
        "ssim_map": metrics.ssim_map,
        "ssim_authors": metrics.ssim_authors,
        "ssim_pairs": metrics.ssim_pairs,
    }.items()
}
DOORS = HIDING | COMPARING
WRONG = {
    "bytes": (np.uint8(255 * GOOD), "uint8, expected floats .*: divide by 255"),
    "levels": (np.uint16(65535 * GOOD), "uint16, .* white, at most 65535"),
    "masks": (GOOD > 0.5, "bool, expected floats .*: convert"),
    "waves": (GOOD.astype(np.complex64), "complex64, expected floats .*: convert"),
    "white is 255": (255 * GOOD, "span .* to 25.*: clip or rescale"),
    "centred": (2 * GOOD - 1, "span -0.9.* to .*: clip or rescale"),
    "endless": (np.where(GOOD > 0.5, np.inf, GOOD), "span .* to inf"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("door", DOORS)
def test_no_door_takes_what_is_no_picture(door, wrong):
    images, words = WRONG[wrong]
    with pytest.raises(ValueError, match=words) as refused:
        DOORS[door](images)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("door", DOORS)
def test_no_images_are_one_line(door):
    with pytest.raises(ValueError, match="at least one"):
        DOORS[door](GOOD[:0])


@pytest.mark.parametrize("door", HIDING)
def test_nothing_is_hidden_in_a_nan(door):
    spoilt = GOOD.copy()
    spoilt[1, 2, 3] = np.nan
    with pytest.raises(ValueError, match="1 NaN among 288 values"):
        HIDING[door](spoilt)


def test_inside_a_program_types_are_looked_at():
    with pytest.raises(ValueError, match="uint8, expected floats"):
        jax.eval_shape(require_pixels, np.zeros(3, np.uint8))
    jax.eval_shape(lambda x: require_pixels(x) or x, 2 * GOOD)


@pytest.mark.parametrize("bits", [0, 8, 3.0, True, np.int64(9), np.float32(2), "3"])
def test_bits_are_whole_numbers_of_any_kind(bits):
    image = np.zeros((1, *SHAPE), np.uint8)
    for call in (low.low_bits, low.reveal_bits):
        with pytest.raises(ValueError, match="an integer of 1 to 7 bits"):
            call(image, bits)
    with pytest.raises(ValueError, match="an integer of 1 to 7 bits"):
        low.hide_bits(image, image, bits)
    with pytest.raises(ValueError, match="an integer of 1 to 7 bits"):
        low.guess_bits(GOOD, bits)
    for good in (3, np.int64(3), np.uint8(3)):
        assert low.low_bits(image + np.uint8(255), good).max() == 7
