"""A network of two layers."""

from ghostjax.models.layers import Dense, MaxPool
from ghostjax.models.zoo import Network


def build(classes):
    """Pool, then one dense layer."""
    return (("pool1", MaxPool()), ("fc1", Dense(classes)))


SMALL = Network(
    build=build, image_shape=(28, 28, 1), classes=10, k={}, source="the tests' own"
)
