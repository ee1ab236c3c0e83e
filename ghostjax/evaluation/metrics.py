"""How close two pictures are, and how sure a mean is; one value per image.

Images are floats in [0, 1], [B, H, W, C] or a single [H, W, C]; the metrics are pure,
may be jitted and vmapped, and return [B] or a scalar. Shapes and types are always
checked; the range is checked where the values are known, that is outside jit: given
0..255, or images smaller than the window, the formulas return plausible numbers. NaN
pixels give NaN.

`summarise` and `proportion` are for finished numbers, on the host.
"""

from functools import partial
from typing import NamedTuple

import dm_pix
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from scipy import special

from ghostjax.evaluation.intervals import Proportion as Proportion
from ghostjax.evaluation.intervals import proportion as proportion
from ghostjax.pixels import require_pixels

__all__ = [
    "AUTHORS_WINDOW",
    "Summary",
    "WINDOW",
    "correct",
    "psnr",
    "ssim",
    "ssim_authors",
    "ssim_authors_where",
    "ssim_map",
    "ssim_pairs",
    "summarise",
]

WINDOW = 11  # of `ssim`, Gaussian
_SIGMA = 1.5
_C1, _C2 = 0.01**2, 0.03**2  # of `ssim`, for images of range 1
AUTHORS_WINDOW = 7  # of `ssim_authors`, uniform
_ROWS, _PLACES = 16, 128  # pictures and candidates of one block of `ssim_pairs`


def correct(logits: Array, labels: Array) -> Array:
    """Whether the largest logit is the label's: bool [B].

    Args:
      logits: [B, classes]; a row with a NaN is wrong. Of equal logits the first counts.
      labels: int [B].

    Raises:
      ValueError: shapes that do not belong together.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"logits {logits.shape} and labels {labels.shape}: expected [B, classes] "
            "and [B]"
        )
    hit = jnp.argmax(logits, axis=-1) == labels
    return hit & ~jnp.isnan(logits).any(axis=-1)


def psnr(a: Array, b: Array, *, rounded: bool = False) -> Array:
    """Peak signal-to-noise ratio, 10 log10(1 / MSE), in dB.

    Args:
      a: images [B, H, W, C] or [H, W, C] in [0, 1].
      b: images of the same shape.
      rounded: round both to k / 255 first, as if they had been saved; static.

    Returns:
      dB for each image, the error averaged over H, W and C; +inf for equal images.

    Raises:
      ValueError: shapes that differ, a rank other than 3 or 4, integer pixels, or
        (outside jit) values beyond [0, 1].
    """
    a, b = _images(a, b)
    if rounded:
        a, b = jnp.round(255 * a) / 255, jnp.round(255 * b) / 255
    return _psnr(a, b)


def ssim(a: Array, b: Array) -> Array:
    """Structural similarity as Wang et al. define it, in [-1, 1].

    Gaussian 11x11 window of sigma 1.5, K1 = 0.01, K2 = 0.03, range 1, population
    (co)variances, mean over channels. Border rule: only windows that lie wholly inside
    the image count, so that 5 pixels on each side are no window's centre; of 28x28
    there remain 18x18 windows. (scikit-image's `gaussian_weights=True,
    use_sample_covariance=False, data_range=1` crops the same border.)

    Args:
      a: images [B, H, W, C] or [H, W, C] in [0, 1].
      b: images of the same shape.

    Returns:
      SSIM for each image, 1 for equal images; symmetric in a and b.

    Raises:
      ValueError: as for `psnr`, or H or W below 11.
    """
    a, b = _images(a, b, window=WINDOW)
    return _ssim_gaussian(a, b)


def ssim_map(a: Array, b: Array) -> Array:
    """The SSIM of the window around every pixel: `ssim` before the mean, as a loss.

    Border rule: the pixels at the image's edge go on outside, so that every pixel is a
    window's centre and images may be smaller than the window. Differentiable, also
    where an image is constant.

    Args:
      a: images [B, H, W, C] or [H, W, C] in [0, 1].
      b: images of the same shape.

    Returns:
      SSIM in [-1, 1] in the shape of `a`.

    Raises:
      ValueError: as for `psnr`.
    """
    return _ssim_windows(*_images(a, b), whole=False)


def ssim_pairs(pictures: ArrayLike, candidates: ArrayLike) -> np.ndarray:
    """The `ssim` of every picture with every candidate, float32 [B, N] on the host.

    In blocks of a fixed number, which are one program in the memory of one block.

    Args:
      pictures: [B, H, W, C] in [0, 1]; NaN gives NaN.
      candidates: [N, H, W, C] in [0, 1].

    Raises:
      ValueError: as for `ssim`, but that B and N may differ; or no images.
    """
    ones, others = np.asarray(pictures), np.asarray(candidates)
    if not len(ones) or not len(others):
        raise ValueError("SSIM of no images: give at least one picture and candidate")
    if ones.shape[1:] != others.shape[1:]:
        raise ValueError(f"images differ in shape: {ones.shape} and {others.shape}")
    some, beside = _blocks(ones, _ROWS), _blocks(others, _PLACES)
    values = np.empty((len(ones), len(others)), np.float32)
    for row, pictures in enumerate(some):
        for place, near in enumerate(beside):
            block = values[
                row * _ROWS : (row + 1) * _ROWS, place * _PLACES : (place + 1) * _PLACES
            ]
            whole = np.asarray(_ssim_block(pictures, near))
            block[:] = whole[: block.shape[0], : block.shape[1]]
    return values


def _blocks(images: np.ndarray, size: int) -> list[np.ndarray]:
    """So many images each, float32 and fit for SSIM; of a fixed shape, so that the
    guards are no program for each number of images."""
    blocks = []
    for start in range(0, len(images), size):
        block = _filled(images[start : start + size], size)
        _images(block, block, window=WINDOW)
        blocks.append(block.astype(np.float32))
    return blocks


def _filled(images: np.ndarray, number: int) -> np.ndarray:
    """So many images; those that are missing repeat."""
    return images[np.resize(np.arange(len(images)), number)]


def ssim_authors(truth: Array, recovered: Array) -> Array:
    """Structural similarity as He et al.'s code computes it, to compare with theirs.

    scikit-image's default of the time: uniform 7x7 window, K1 = 0.01, K2 = 0.03, sample
    (co)variances, mean over channels, windows wholly inside the image (3 pixels on each
    side cropped); and with the recovered image's own maximum - minimum, over all its
    channels, as the data range. Not symmetric. Source: reference/he_attacks.md, 3.

    We deviate where the recovered image is constant: always NaN. Theirs is 0 / 0 = NaN
    as soon as one window of the truth is flat too, and next to 0 otherwise.

    Args:
      truth: images [B, H, W, C] or [H, W, C] in [0, 1].
      recovered: images of the same shape, the attacker's.

    Returns:
      SSIM for each image, in [-1, 1]; NaN for a constant recovered image.

    Raises:
      ValueError: as for `psnr`, or H or W below 7.
    """
    value, defined = ssim_authors_where(truth, recovered)
    return jnp.where(defined, value, jnp.nan)


def ssim_authors_where(truth: Array, recovered: Array) -> tuple[Array, Array]:
    """`ssim_authors` without a NaN, for those who look for theirs (`jax_debug_nans`).

    Args and errors: those of `ssim_authors`.

    Returns:
      SSIM for each image, and whether it is defined: where it is not, any number.
    """
    truth, recovered = _images(truth, recovered, window=AUTHORS_WINDOW)
    return _ssim_uniform(truth, recovered)


_psnr = jax.jit(dm_pix.psnr)


@jax.jit
def _ssim_gaussian(a: Array, b: Array) -> Array:
    return _ssim_windows(a, b, whole=True).mean((-3, -2, -1))


@jax.jit
def _ssim_block(pictures: Array, candidates: Array) -> Array:
    """[pictures, candidates]. What windows of one image alone have is reckoned once,
    and only those of the product for each pair."""
    ones, others = (jnp.moveaxis(x, -1, 1) for x in (pictures, candidates))
    rows, columns = (_window_weights(side, True) for side in ones.shape[-2:])

    def blur(images: Array) -> Array:
        """Means of all windows [..., w, h], by two products of matrices."""
        across = jnp.matmul(images, columns.T, precision="highest")
        turned = jnp.swapaxes(across, -1, -2)
        return jnp.matmul(turned, rows.T, precision="highest")

    mean_ones, mean_others = blur(ones), blur(others)
    squares_ones, squares_others = blur(ones**2), blur(others**2)

    def beside(one: tuple[Array, Array, Array]) -> Array:
        image, mean, squares = (x[None] for x in one)
        means, mean_squares = mean * mean_others, mean**2 + mean_others**2
        covariance = blur(image * others) - means
        variances = squares + squares_others - mean_squares
        values = (2 * means + _C1) * (2 * covariance + _C2)
        values /= (mean_squares + _C1) * (variances + _C2)
        return values.mean((1, 2, 3))

    return jax.lax.map(beside, (ones, mean_ones, squares_ones))


@partial(jax.jit, static_argnames="whole")
def _ssim_windows(a: Array, b: Array, whole: bool) -> Array:
    """The SSIM of every window [..., h, w, C]; of those inside the image if `whole`.

    The windows are blurred by matrices: XLA's depthwise convolutions are many times
    slower on CPU, and take most of a training step there. In full precision: a
    variance is the small difference of two large numbers.
    """
    rows, columns = (_window_weights(side, whole) for side in a.shape[-3:-1])

    def blur(images: Array) -> Array:
        spelled = "hH,wW,...HWc->...hwc"
        return jnp.einsum(spelled, rows, columns, images, precision="highest")

    mean_a, mean_b, squares, product = map(blur, (a, b, a**2 + b**2, a * b))
    means, mean_squares = mean_a * mean_b, mean_a**2 + mean_b**2
    numerator = (2 * means + _C1) * (2 * (product - means) + _C2)
    return numerator / ((mean_squares + _C1) * (squares - mean_squares + _C2))


def _window_weights(side: int, whole: bool) -> np.ndarray:
    """[windows, side], the Gaussian windows along one axis."""
    radius = WINDOW // 2
    offsets = np.arange(-radius, radius + 1)
    gaussian = np.exp(-0.5 * (offsets / _SIGMA) ** 2)
    weights = np.zeros((side, side), np.float32)
    for centre in range(side):
        np.add.at(weights[centre], np.clip(centre + offsets, 0, side - 1), gaussian)
    return (weights[radius:-radius] if whole else weights) / gaussian.sum()


@jax.jit
def _ssim_uniform(truth: Array, recovered: Array) -> tuple[Array, Array]:
    if truth.ndim == 3:
        return _ssim_uniform_pair((truth, recovered))
    return jax.lax.map(_ssim_uniform_pair, (truth, recovered), batch_size=64)


def _ssim_uniform_pair(pair: tuple[Array, Array]) -> tuple[Array, Array]:
    """One pair [H, W, C]; two passes over the 49 shifts, as C2 can be below 1e-7."""
    a, b = (_windows(image) for image in pair)  # [49, H - 6, W - 6, C]
    mean_a, mean_b = a.mean(0, keepdims=True), b.mean(0, keepdims=True)
    variances = a.var(0, ddof=1) + b.var(0, ddof=1)
    covariance = ((a - mean_a) * (b - mean_b)).sum(0) / (a.shape[0] - 1)
    mean_a, mean_b = mean_a[0], mean_b[0]
    data_range = jnp.ptp(pair[1])
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    numerator = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    denominator = (mean_a**2 + mean_b**2 + c1) * (variances + c2)
    flat = data_range == 0
    value = numerator / jnp.where(flat, 1.0, denominator)
    return value.mean(), ~flat


def _windows(image: Array) -> Array:
    shifts = range(AUTHORS_WINDOW)
    height, width = (size - AUTHORS_WINDOW + 1 for size in image.shape[:2])
    rows = jnp.stack([image[y : y + height] for y in shifts])
    windows = jnp.stack([rows[:, :, x : x + width] for x in shifts])
    return windows.reshape(AUTHORS_WINDOW**2, height, width, -1)


def _images(a: ArrayLike, b: ArrayLike, window: int = 1) -> tuple[Array, Array]:
    """Both as float32, after the guards that dm-pix does not have."""
    if np.shape(a) != np.shape(b):
        raise ValueError(f"images differ in shape: {np.shape(a)} and {np.shape(b)}")
    if np.ndim(a) not in (3, 4):
        raise ValueError(
            f"images have shape {np.shape(a)}: expected [B, H, W, C] or [H, W, C]"
        )
    if min(np.shape(a)[-3:-1]) < window:
        raise ValueError(
            f"images of shape {np.shape(a)} are smaller than the {window}x{window} "
            "window: this SSIM is not defined for them"
        )
    return _unit_range(a), _unit_range(b)


def _unit_range(images: ArrayLike) -> Array:
    require_pixels(images, spoilt=True)
    return jnp.asarray(images, jnp.float32)


class Summary(NamedTuple):
    """A mean over images with its 95 % interval; NaN where it is not defined."""

    mean: float
    low: float
    high: float
    n: int  # finite values, those the mean is over
    infinite: int  # left out: equal images, in PSNR
    undefined: int  # NaN, left out: constant recovered images, in `ssim_authors`


def summarise(values: ArrayLike) -> Summary:
    """Mean and 95 % interval, Student's t, over the finite values.

    Args:
      values: one number per image or per run, any shape; taken as independent.

    Returns:
      The summary. What was left out is counted: a mean without its `infinite` and
      `undefined` is half a result. Fewer than two finite values have no interval.
    """
    values = np.asarray(values, np.float64).ravel()
    finite = values[np.isfinite(values)]
    n, infinite = finite.size, int(np.isinf(values).sum())
    mean = float(finite.mean()) if n else np.nan
    half = np.nan
    if n > 1:
        half = float(special.stdtrit(n - 1, 0.975) * finite.std(ddof=1) / np.sqrt(n))
    undefined = int(np.isnan(values).sum())
    return Summary(mean, mean - half, mean + half, n, infinite, undefined)
