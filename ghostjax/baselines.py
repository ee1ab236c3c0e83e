"""Pictures that an attacker has without looking at any feature.

A reconstruction that does not beat them has recovered nothing: on MNIST an all-black
picture scores 9.7 dB, which passes for "good quality" in some papers.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array

BASELINES = ("black", "grey", "constant", "train_mean", "class_mean")


def pictures(
    images: np.ndarray, labels: np.ndarray, secrets: Array, secret_labels: np.ndarray
) -> dict[str, Array]:
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
      of the secret's class, which he knows from the answer.
    """
    means = {
        label: jnp.asarray(images[labels == label].mean(0, np.float64) / 255)
        for label in np.unique(secret_labels)
    }
    whole = jnp.asarray(images.mean(0, np.float64) / 255)
    made = {
        "black": jnp.zeros_like(secrets),
        "grey": jnp.full_like(secrets, 0.5),
        "constant": secrets.mean((1, 2), keepdims=True),
        "train_mean": whole,
        "class_mean": jnp.stack([means[label] for label in secret_labels]),
    }
    return {
        name: jnp.broadcast_to(made[name], secrets.shape).astype(jnp.float32)
        for name in BASELINES
    }
