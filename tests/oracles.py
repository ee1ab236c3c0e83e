"""Slow, plain, independent versions of what ghostjax computes fast.

NumPy and SciPy in float64, Python integers, explicit loops; nothing is imported from
ghostjax or jax. The tests compare against these.
"""

import numpy as np
from scipy import ndimage, stats


def psnr(a, b):
    """[B, H, W, C] in [0, 1] to dB [B]."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.array(
        [
            np.inf if (x == y).all() else -10 * np.log10(np.mean((x - y) ** 2))
            for x, y in zip(a, b, strict=True)
        ]
    )


def ssim_gaussian(a, b):
    """Wang et al.'s SSIM: 11x11 Gaussian window, 5 border pixels cropped; [B]."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    weights = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    weights /= weights.sum()

    def blur(image):
        return ndimage.correlate1d(ndimage.correlate1d(image, weights, 0), weights, 1)

    def one(x, y):
        mean_x, mean_y = blur(x), blur(y)
        var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
        covariance = blur(x * y) - mean_x * mean_y
        c1, c2 = 0.01**2, 0.03**2
        top = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
        bottom = (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
        return (top / bottom)[5:-5, 5:-5].mean()

    return np.array(
        [
            np.mean([one(x[..., c], y[..., c]) for c in range(x.shape[-1])])
            for x, y in zip(a, b, strict=True)
        ]
    )


def ssim_uniform(truth, recovered):
    """He et al.'s SSIM, window by window, range = that of the recovered image; [B]."""
    truth = np.asarray(truth, np.float64)
    recovered = np.asarray(recovered, np.float64)
    scores = []
    for x, y in zip(truth, recovered, strict=True):
        span = y.max() - y.min()
        c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
        height, width, channels = x.shape
        found = []
        for c in range(channels):
            for top in range(height - 6):
                for left in range(width - 6):
                    p = x[top : top + 7, left : left + 7, c].ravel()
                    q = y[top : top + 7, left : left + 7, c].ravel()
                    (var_p, both), (_, var_q) = np.cov(p, q)
                    upper = (2 * p.mean() * q.mean() + c1) * (2 * both + c2)
                    lower = p.mean() ** 2 + q.mean() ** 2 + c1
                    found.append(upper / (lower * (var_p + var_q + c2)))
        scores.append(np.mean(found))
    return np.array(scores)


def lsb_hide(cover, secret, bits):
    """Two Python integers in 0..255 to the stego, by division."""
    return cover // 2**bits * 2**bits + secret // 2 ** (8 - bits)


def lsb_reveal(stego, bits):
    """The secret's top bits, in place, by division."""
    return stego % 2**bits * 2 ** (8 - bits)


def mutual_information(x, y):
    """I(X; Y) in bits between two lists of integers, each pair equally likely."""

    def entropy(values):
        _, counts = np.unique(values, axis=0, return_counts=True)
        share = counts / counts.sum()
        return -(share * np.log2(share)).sum()

    x, y = np.asarray(x), np.asarray(y)
    return entropy(x) + entropy(y) - entropy(np.stack([x, y], axis=1))


def stream_positions(step, batch, n):
    """(epoch, place in it) of a step's positions, in Python's unbounded integers."""
    return [divmod(step * batch + i, n) for i in range(batch)]


def uniform_p(values, cells):
    """p value of the chi-square test that integers are uniform on range(cells)."""
    counts = np.bincount(np.asarray(values).ravel(), minlength=cells)
    assert counts.size == cells, "a value is out of range"
    return stats.chisquare(counts).pvalue
