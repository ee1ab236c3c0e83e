"""The networks of the two papers, by name: `network("lenet5").build(10)` is a Chain.

Conv, activation and pool are separate layers, as in the papers' K: K = 3 is `pool1` on
MNIST's networks and `conv12` on CIFAR-10's, K = 5 is `ReLU2` and `pool1`. Networks with
batch norm or dropout count those nowhere in K, so cut by name; `k` gives the names.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from ghostjax import registry
from ghostjax.models.chain import Chain
from ghostjax.models.layers import (
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    MaxPool,
    Normalize,
    Relu,
    Sigmoid,
)

__all__ = [
    "NETWORKS",
    "Network",
    "alexnet_svhn",
    "cnn2",
    "cnn4_bn",
    "cnn4_bn_32",
    "cnn6",
    "cnn6_gtsrb",
    "lenet5",
    "network",
]

_IMAGENET = Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Network(NamedTuple):
    """A network, with what the table of networks prints.

    One of your own has a name by `registry.NETWORKS.add("mine", Network(...))`, or by
    an entry point of "ghostjax.networks", and stands in a config as the papers' do.
    """

    build: Callable[[int], Chain]  # number of classes -> layers
    image_shape: tuple[int, int, int]  # H, W, C
    classes: int
    k: Mapping[int, str] = MappingProxyType({})  # the papers' K -> layer name
    source: str = ""


def network(name: str) -> Network:
    """Looks a network up among those that `registry` knows.

    Raises:
      ValueError: no network of that name (the nearest and the list are given).
    """
    return registry.NETWORKS.find(name)


def lenet5(classes: int = 10) -> Chain:
    """He et al.'s LeNet-5 variant: valid convolutions of 8 and 16 filters, max pools.

    PyTorch's default initialisation and pixels scaled to [-1, 1], as theirs.
    """
    return (
        ("normalize", Normalize((0.5,), (0.5,))),
        ("conv1", Conv(8, 5, initialisation="torch")),
        ("ReLU1", Relu()),
        ("pool1", MaxPool()),
        ("conv2", Conv(16, 5, initialisation="torch")),
        ("ReLU2", Relu()),
        ("pool2", MaxPool()),
        ("fc1", Dense(120, "torch")),
        ("fc1act", Relu()),
        ("fc2", Dense(84, "torch")),
        ("fc2act", Relu()),
        ("fc3", Dense(classes, "torch")),
    )


def cnn2(classes: int = 10) -> Chain:
    """GHOST's MNIST network: 2 conv, 2 pool, 2 dense (Table II).

    Table II gives no widths: 32 and 64 filters of 3x3 and 128 units are our choice (the
    usual Keras MNIST network, which has the same counts).
    """
    return (
        ("conv1", Conv(32, 3)),
        ("ReLU1", Relu()),
        ("pool1", MaxPool()),
        ("conv2", Conv(64, 3)),
        ("ReLU2", Relu()),
        ("pool2", MaxPool()),
        ("fc1", Dense(128)),
        ("fc1act", Relu()),
        ("fc2", Dense(classes)),
    )


def cnn4_bn(classes: int = 10) -> Chain:
    """GHOST's CIFAR-10 network: 4 conv, 2 pool, 4 BN, 4 dropout, 3 dense (Table II).

    Widths (64, 64, 128, 128; 256, 128), rates and the places of BN and dropout are our
    choice: the paper gives counts only.
    """
    return _cnn4_bn(64, classes)


def cnn4_bn_32(classes: int = 10) -> Chain:
    """`cnn4_bn` with half the filters (32, 32, 64, 64): a quarter of the work.

    For a CPU; the paper's counts of layers (Table II) hold for it too.
    """
    return _cnn4_bn(32, classes)


def cnn6(classes: int = 10) -> Chain:
    """He et al.'s CIFAR-10 network: 6 conv and 2 dense, a sigmoid between the dense.

    PyTorch's default initialisation and ImageNet's pixel statistics, as theirs.
    """
    return (
        ("normalize", _IMAGENET),
        *_conv_pair("1", 64),
        ("pool1", MaxPool()),
        *_conv_pair("2", 128),
        ("pool2", MaxPool()),
        *_conv_pair("3", 128),
        ("pool3", MaxPool()),
        ("fc1", Dense(512, "torch")),
        ("fc1act", Sigmoid()),
        ("fc2", Dense(classes, "torch")),
    )


def cnn6_gtsrb(classes: int = 43) -> Chain:
    """GHOST's GTSRB network: 6 conv, 3 pool, 4 dropout, 2 dense (Table II).

    Widths, rates and padding are those of the usual Keras GTSRB network with the same
    counts (32, 32, 64, 64, 128, 128; 512): our choice, the paper gives counts only.
    """
    return (
        *_conv_same_valid("1", 32),
        ("pool1", MaxPool()),
        ("drop1", Dropout(0.2)),
        *_conv_same_valid("2", 64),
        ("pool2", MaxPool()),
        ("drop2", Dropout(0.2)),
        *_conv_same_valid("3", 128),
        ("pool3", MaxPool()),
        ("drop3", Dropout(0.2)),
        ("fc1", Dense(512)),
        ("fc1act", Relu()),
        ("drop4", Dropout(0.5)),
        ("fc2", Dense(classes)),
    )


def alexnet_svhn(classes: int = 10) -> Chain:
    """AlexNet for 32x32 (GHOST Table II, SVHN).

    The filters are AlexNet's (64, 192, 384, 256, 256, overlapping 3x3 pools); its 11x11
    stride-4 first layer does not fit 32 pixels, so conv1 is 5x5 stride 1, and the dense
    layers have 1,024 units instead of 4,096: our choice.
    """
    return (
        ("conv1", Conv(64, 5, "SAME")),
        ("ReLU1", Relu()),
        ("pool1", MaxPool(3, 2)),
        ("conv2", Conv(192, 5, "SAME")),
        ("ReLU2", Relu()),
        ("pool2", MaxPool(3, 2)),
        ("conv3", Conv(384, 3, "SAME")),
        ("ReLU3", Relu()),
        ("conv4", Conv(256, 3, "SAME")),
        ("ReLU4", Relu()),
        ("conv5", Conv(256, 3, "SAME")),
        ("ReLU5", Relu()),
        ("pool5", MaxPool(3, 2)),
        ("drop1", Dropout(0.5)),
        ("fc1", Dense(1024)),
        ("fc1act", Relu()),
        ("drop2", Dropout(0.5)),
        ("fc2", Dense(1024)),
        ("fc2act", Relu()),
        ("fc3", Dense(classes)),
    )


def _cnn4_bn(filters: int, classes: int) -> Chain:
    return (
        *_conv_bn("1", 1, filters),
        *_conv_bn("1", 2, filters),
        ("pool1", MaxPool()),
        ("drop1", Dropout(0.25)),
        *_conv_bn("2", 1, 2 * filters),
        *_conv_bn("2", 2, 2 * filters),
        ("pool2", MaxPool()),
        ("drop2", Dropout(0.25)),
        ("fc1", Dense(256)),
        ("fc1act", Relu()),
        ("drop3", Dropout(0.3)),
        ("fc2", Dense(128)),
        ("fc2act", Relu()),
        ("drop4", Dropout(0.3)),
        ("fc3", Dense(classes)),
    )


def _conv_bn(block: str, place: int, filters: int) -> Chain:
    name = f"{block}{place}"
    return (
        (f"conv{name}", Conv(filters, 3, "SAME")),
        (f"bn{name}", BatchNorm()),
        (f"ReLU{name}", Relu()),
    )


def _conv_pair(block: str, filters: int) -> Chain:
    return tuple(
        layer
        for place in (1, 2)
        for layer in (
            (f"conv{block}{place}", Conv(filters, 3, "SAME", "torch")),
            (f"ReLU{block}{place}", Relu()),
        )
    )


def _conv_same_valid(block: str, filters: int) -> Chain:
    return (
        (f"conv{block}1", Conv(filters, 3, "SAME")),
        (f"ReLU{block}1", Relu()),
        (f"conv{block}2", Conv(filters, 3)),
        (f"ReLU{block}2", Relu()),
    )


_GREY, _COLOUR = (28, 28, 1), (32, 32, 3)
_SHALLOW, _BLOCKS = {3: "pool1", 5: "ReLU2"}, {3: "conv12", 5: "pool1"}

NETWORKS: dict[str, Network] = {
    name: Network(build=build, image_shape=shape, classes=classes, k=k, source=source)
    for name, build, shape, classes, k, source in (
        ("lenet5", lenet5, _GREY, 10, _SHALLOW, "He et al. 2020, MNIST"),
        ("cnn2", cnn2, _GREY, 10, _SHALLOW, "GHOST Table II, MNIST"),
        ("cnn4_bn", cnn4_bn, _COLOUR, 10, _BLOCKS, "GHOST Table II, CIFAR-10"),
        ("cnn4_bn_32", cnn4_bn_32, _COLOUR, 10, _BLOCKS, "cnn4_bn, half as wide"),
        ("cnn6", cnn6, _COLOUR, 10, _BLOCKS, "He et al. 2020, CIFAR-10"),
        ("cnn6_gtsrb", cnn6_gtsrb, _COLOUR, 43, _BLOCKS, "GHOST Table II, GTSRB"),
        ("alexnet_svhn", alexnet_svhn, _COLOUR, 10, _SHALLOW, "GHOST Table II SVHN"),
    )
}
"""ghostjax's own rows of `registry.NETWORKS`."""
