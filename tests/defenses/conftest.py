"""The target that the defenses of this folder share."""

import jax
import pytest
from probes import bars, target


@pytest.fixture(scope="session")
def learned():
    """(variables of `probes.NETWORK`, images [512, H, W, C], labels), on the host."""
    images, labels = bars(0, 512)
    return jax.device_get(target(images, labels, 80)), images, labels
