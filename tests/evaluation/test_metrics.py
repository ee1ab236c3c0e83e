import dm_pix
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from scipy import stats

from ghostjax import data
from ghostjax.evaluation import metrics

METRICS = [metrics.psnr, metrics.ssim, metrics.ssim_authors]
GUARDED = [*METRICS, metrics.ssim_map]
SMALL, DIGITS = SHAPES = [(2, 13, 17, 3), (4, 28, 28, 1)]  # a program for each


def noisy_pairs(shape, seed=0):
    """Uniform noise: no structure shared, every value used."""
    rng = np.random.default_rng(seed)
    a = rng.random(shape, np.float32)
    return a, np.clip(a + rng.normal(0, 0.2, shape), 0, 1).astype(np.float32)


def digit_pairs():
    """Smooth strokes on flat black, as MNIST has, against a disturbed copy."""
    images = data.load("digits").train.images[:4] / 255
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.1, images.shape) * rng.random((4, 1, 1, 1))
    return images.astype(np.float32), np.clip(images + noise, 0, 1).astype(np.float32)


def slope_pairs():
    """Light that falls off slowly, against a paler copy."""
    rows, columns = np.mgrid[:13, :17] / 17
    images = np.stack([rows, columns, rows * columns], -1)
    images = np.float32([images, 1 - images])
    return images, 0.75 * images + np.float32(0.2)


PAIRS = [noisy_pairs(shape) for shape in SHAPES] + [digit_pairs(), slope_pairs()]


@pytest.mark.parametrize("a, b", PAIRS)
def test_metrics_agree_with_the_oracles(a, b):
    pairs = [
        (metrics.psnr, oracles.psnr),
        (metrics.ssim, oracles.ssim_gaussian),
        (metrics.ssim_authors, oracles.ssim_uniform),
    ]
    for ours, oracle in pairs:
        np.testing.assert_allclose(ours(a, b), oracle(a, b), rtol=0, atol=1e-4)


theirs = jax.jit(dm_pix.ssim)


@pytest.mark.parametrize("a, b", PAIRS)
def test_ssim_agrees_with_dm_pix(a, b):
    for left, right in ((a, b), (b, a), (a, np.ones_like(a)), (a, 1 - a)):
        wanted = theirs(left, right)
        np.testing.assert_allclose(metrics.ssim(left, right), wanted, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_ssim_map_is_ssim_of_every_pixel_with_the_border_going_on_outside(shape):
    a, b = noisy_pairs(shape)
    every = np.asarray(metrics.ssim_map(a, b))
    assert every.shape == a.shape
    inner = every[:, 5:-5, 5:-5].mean((1, 2, 3))
    np.testing.assert_allclose(inner, metrics.ssim(a, b), atol=1e-5)
    padded = (np.pad(x, ((0,) * 2, (5, 5), (5, 5), (0,) * 2), "edge") for x in (a, b))
    whole = every.mean((1, 2, 3))
    np.testing.assert_allclose(whole, oracles.ssim_gaussian(*padded), atol=1e-5)


def test_ssim_map_is_defined_below_its_window_and_has_a_slope_at_constant_images():
    small = jnp.full((2, 4, 6, 1), 0.25)
    np.testing.assert_allclose(metrics.ssim_map(small, small), 1, atol=1e-6)
    black, (wanted, _) = jnp.zeros((2, 12, 12, 1)), noisy_pairs((2, 12, 12, 1))
    slope = jax.grad(lambda x: metrics.ssim_map(x, wanted).mean())(black)
    assert jnp.isfinite(slope).all() and float(jnp.abs(slope).max()) > 0


def test_ssim_authors_keeps_its_precision_at_a_small_range():
    a, b = digit_pairs()
    b = 0.5 + 0.01 * b
    ours = metrics.ssim_authors(a, b)
    np.testing.assert_allclose(ours, oracles.ssim_uniform(a, b), rtol=0, atol=1e-4)


def test_ssim_authors_takes_the_range_of_its_second_argument():
    a, b = digit_pairs()
    there, back = metrics.ssim_authors(a, b / 2), metrics.ssim_authors(b / 2, a)
    assert float(jnp.abs(there - back).max()) > 1e-3


def test_ssim_authors_is_nan_exactly_for_constant_recovered_images():
    a, b = noisy_pairs(SMALL)
    b[1] = 0.3
    assert np.isnan(metrics.ssim_authors(a, b)).tolist() == [False, True]
    assert not np.isnan(metrics.ssim_authors(b, a)).any()


@pytest.mark.parametrize("metric", METRICS)
def test_batched_equals_jitted_vmapped_and_single(metric):
    a, b = PAIRS[0]
    batched = metric(a, b)
    assert batched.shape == a.shape[:1] and batched.dtype == jnp.float32
    for other in (
        jax.jit(metric)(a, b),
        jax.vmap(metric)(a, b),
        np.stack([metric(x, y) for x, y in zip(a, b, strict=True)]),
    ):
        np.testing.assert_allclose(other, batched, atol=2e-6, rtol=1e-6)


def test_ssim_authors_maps_more_images_than_one_chunk_holds():
    a, b = noisy_pairs((66, 7, 8, 1))
    wanted = oracles.ssim_uniform(a, b)
    np.testing.assert_allclose(metrics.ssim_authors(a, b), wanted, atol=1e-4)


def test_equal_images():
    a, _ = noisy_pairs(SMALL)
    assert metrics.psnr(a, a).tolist() == [np.inf, np.inf]
    assert metrics.ssim(a, a).tolist() == [1, 1]
    np.testing.assert_allclose(metrics.ssim_authors(a, a), 1, atol=1e-6)


def test_psnr_of_a_known_error():
    a, b = np.zeros(SMALL, np.float32), np.full(SMALL, 0.1, np.float32)
    np.testing.assert_allclose(metrics.psnr(a, b), [20.0] * 2, atol=1e-4)


def test_psnr_rounds_to_8_bits_on_request():
    a, near, far = (np.full(SMALL, x / 255, np.float32) for x in (100, 100.4, 100.6))
    assert np.isfinite(metrics.psnr(a, near)).all()
    assert metrics.psnr(a, near, rounded=True).tolist() == [np.inf] * 2
    one_level = metrics.psnr(a, far, rounded=True)
    np.testing.assert_allclose(one_level, [20 * np.log10(255)] * 2, atol=1e-3)


@pytest.mark.parametrize("metric", METRICS)
def test_nan_pixels_give_nan_for_their_image_only(metric):
    a, b = noisy_pairs(SMALL)
    b[0, 6, 6] = np.nan
    assert np.isnan(metric(a, b)).tolist() == [True, False]


@pytest.mark.parametrize("metric", GUARDED)
def test_guards(metric):
    a, bright, dark = (np.zeros(SMALL, np.float32) for _ in range(3))
    bright[0, 0], dark[0, 0] = 255, -1
    with pytest.raises(ValueError, match=r"\(2, 13, 17, 3\) and \(2, 13, 16, 3\)"):
        metric(a, a[:, :, :-1])
    with pytest.raises(ValueError, match="expected .B, H, W, C."):
        metric(a[0, 0], a[0, 0])
    with pytest.raises(ValueError, match="uint8, .*: divide by 255"):
        metric(a.astype(np.uint8), a.astype(np.uint8))
    with pytest.raises(ValueError, match="span 0 to 255"):
        metric(a, bright)
    with pytest.raises(ValueError, match="span -1 to 0"):
        metric(dark, a)


def test_images_smaller_than_the_window_are_refused():
    smallest = jax.ShapeDtypeStruct((1, 11, 11, 1), jnp.float32)
    assert jax.eval_shape(metrics.ssim, smallest, smallest).shape == (1,)
    for small in ((1, 10, 28, 1), (28, 10, 1)):
        with pytest.raises(ValueError, match="smaller than the 11x11 window"):
            metrics.ssim(np.zeros(small), np.zeros(small))
    with pytest.raises(ValueError, match="smaller than the 7x7 window"):
        metrics.ssim_authors(np.zeros((1, 6, 9, 1)), np.zeros((1, 6, 9, 1)))


def test_correct_counts_a_nan_row_as_wrong():
    logits = jnp.array([[0.0, 2.0], [3.0, 1.0], [jnp.nan, 1.0], [1.0, 5.0]])
    right = metrics.correct(logits, jnp.array([1, 0, 0, 0]))
    assert right.tolist() == [True, True, False, False]
    with pytest.raises(ValueError, match="labels"):
        metrics.correct(logits, jnp.array([1, 0]))


def test_summarise_agrees_with_scipy_and_counts_what_it_left_out():
    values = np.random.default_rng(3).normal(20, 3, 12)
    summary = metrics.summarise([*values, np.inf, np.inf, np.nan])
    low, high = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    np.testing.assert_allclose(summary, (values.mean(), low, high, 12, 2, 1))


def test_interval_covers_the_truth_as_often_as_it_says():
    samples = np.random.default_rng(4).normal(7, 2, (2000, 5))
    summaries = [metrics.summarise(sample) for sample in samples]
    covered = sum(s.low <= 7 <= s.high for s in summaries)
    assert stats.binomtest(covered, 2000, 0.95).pvalue > 1e-3
    normal = sum(abs(s.mean() - 7) <= 1.96 * stats.sem(s) for s in samples)
    assert stats.binomtest(normal, 2000, 0.95).pvalue < 1e-3  # z for t: too narrow


def test_summarise_without_enough_values():
    one, none = metrics.summarise([3.0]), metrics.summarise([np.inf])
    assert one.mean == 3 and np.isnan(one.low) and one.n == 1
    assert np.isnan(none.mean) and (none.n, none.infinite) == (0, 1)


@pytest.mark.parametrize("k, n", [(0, 10), (10, 10), (981, 1000), (1, 1), (3, 7)])
def test_proportion_agrees_with_scipy(k, n):
    interval = stats.binomtest(k, n).proportion_ci(0.95, "wilson")
    wanted = 100 * k / n, 100 * interval.low, 100 * interval.high
    np.testing.assert_allclose(metrics.proportion(k, n), wanted, atol=1e-9)


@pytest.mark.parametrize("k, n", [(0, 0), (-1, 5), (6, 5)])
def test_impossible_proportions_are_refused(k, n):
    with pytest.raises(ValueError, match=f"{k} of {n}"):
        metrics.proportion(k, n)
