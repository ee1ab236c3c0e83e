"""A network of a hidden layer, whose programs compile in a second."""

from ghostjax.models.layers import Dense, MaxPool, Relu
from ghostjax.models.zoo import Network


def build(classes):
    """Pool, then two dense layers."""
    return (
        ("pool1", MaxPool()),
        ("fc1", Dense(24)),
        ("fc1act", Relu()),
        ("fc2", Dense(classes)),
    )


SMALL = Network(
    build=build, image_shape=(28, 28, 1), classes=10, k={}, source="the tests' own"
)
