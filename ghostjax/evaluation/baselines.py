"""Pictures that an attacker has without looking at any feature. Imports no jax.

On MNIST an all-black picture scores 9.7 dB, which passes for "good quality" in some
papers. What they score is no floor of what can be read: a legible picture may score
less (see `recognition`).
"""

import numpy as np

__all__ = ["BASELINES", "ORACLES", "pictures"]

BASELINES = ("black", "grey", "constant", "train_mean", "class_mean")
ORACLES = ("constant", "class_mean")
"""Those that know something of the secret; no measure of what an attacker has got."""


def pictures(
    images: np.ndarray,
    labels: np.ndarray,
    secrets: np.ndarray,
    secret_labels: np.ndarray,
) -> dict[str, np.ndarray]:
    """One picture of each kind for every secret.

    Args:
      images: the train split, uint8 [N, H, W, C].
      labels: int32 [N].
      secrets: what is looked for, float32 [B, H, W, C] in [0, 1].
      secret_labels: int32 [B].

    Returns:
      name in `BASELINES` -> float32 [B, H, W, C] in [0, 1]: black; mid-grey, where the
      authors' search starts; the secret's own mean colour, the best of all constants,
      which the attacker does not know; the mean training image; the mean training image
      of the secret's class, which it knows where the answer is right.
    """
    means = {
        label: _mean(images[labels == label]) for label in np.unique(secret_labels)
    }
    by_name = {
        "black": np.float32(0),
        "grey": np.float32(0.5),
        "constant": secrets.mean((1, 2), keepdims=True),
        "train_mean": _mean(images)[None],
        "class_mean": np.stack([means[label] for label in secret_labels]),
    }
    return {
        name: np.broadcast_to(by_name[name], secrets.shape).astype(np.float32)
        for name in BASELINES
    }


def _mean(images: np.ndarray) -> np.ndarray:
    """Of bytes, as float32 [H, W, C] in [0, 1]; summed in float64."""
    mean = images.mean(0, dtype=np.float64) / np.iinfo(images.dtype).max
    return mean.astype(np.float32)
