"""The data sets ghostjax knows: shapes, classes, publishers, terms. Data only."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

__all__ = ["DATASETS", "DataError", "Info"]


class DataError(ValueError):
    """A data set is unknown, not there, or damaged; one line says which and why."""


class Info(NamedTuple):
    """What is known about a data set before any file is read.

    One of your own has a name by `registry.DATASETS.add("mine", Info(...))`, or by an
    entry point of "ghostjax.data", and stands in a config as ours do. One that TFDS has
    prepared needs none: it is read from what lies with the data.
    """

    shape: tuple[int, int, int]  # of an image, (H, W, C)
    class_names: tuple[str, ...]
    version: str = "1.0.0"  # the TFDS version, also the name of the folder
    load: str | Callable[[str], Any] = ""
    """`load(name) -> Dataset`, or the "module:function" where that is; empty: it is
    read as tensorflow-datasets prepared it."""
    counts: Mapping[str, int] = MappingProxyType({})  # images per published split
    download: int = 0  # bytes to download
    where: str = ""  # the publisher's page
    licence: str = ""  # what the publisher says
    citation: str = ""
    features: tuple[str, str] = ("image", "label")  # TFDS's names of what is read

    @property
    def classes(self) -> int:
        """How many labels there are."""
        return len(self.class_names)


_DIGITS = tuple("0123456789")
_OBJECTS = "airplane automobile bird cat deer dog frog horse ship truck"
_SIGNS = """\
Speed limit (20km/h)
Speed limit (30km/h)
Speed limit (50km/h)
Speed limit (60km/h)
Speed limit (70km/h)
Speed limit (80km/h)
End of speed limit (80km/h)
Speed limit (100km/h)
Speed limit (120km/h)
No passing
No passing for vehicles over 3.5 metric tons
Right-of-way at the next intersection
Priority road
Yield
Stop
No vehicles
Vehicles over 3.5 metric tons prohibited
No entry
General caution
Dangerous curve to the left
Dangerous curve to the right
Double curve
Bumpy road
Slippery road
Road narrows on the right
Road work
Traffic signals
Pedestrians
Children crossing
Bicycles crossing
Beware of ice/snow
Wild animals crossing
End of all speed and passing limits
Turn right ahead
Turn left ahead
Ahead only
Go straight or right
Go straight or left
Keep right
Keep left
Roundabout mandatory
End of no passing
End of no passing by vehicles over 3.5 metric tons"""

DATASETS: dict[str, Info] = {
    "digits": Info(
        version="1.0.0",
        shape=(28, 28, 1),
        class_names=_DIGITS,
        load="ghostjax.data.digits:load",
        counts={"train": 1437, "test": 360},
        where="comes with scikit-learn",
        licence="CC BY 4.0 (UCI Machine Learning Repository)",
        citation="E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten "
        "Digits. UCI Machine Learning Repository, 1998",
    ),
    "mnist": Info(
        version="3.0.1",
        shape=(28, 28, 1),
        class_names=_DIGITS,
        counts={"train": 60000, "test": 10000},
        download=11594722,
        where="http://yann.lecun.com/exdb/mnist/",
        licence="none in the files; commonly given as CC BY-SA 3.0",
        citation="Y. LeCun, C. Cortes, C. Burges: MNIST handwritten digit "
        "database. ATT Labs, 2010",
    ),
    "cifar10": Info(
        version="3.0.2",
        shape=(32, 32, 3),
        class_names=tuple(_OBJECTS.split()),
        counts={"train": 50000, "test": 10000},
        download=170052171,
        where="https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="none stated; cite the report (a subset of 80 Million Tiny Images, "
        "which its authors withdrew in 2020)",
        citation="A. Krizhevsky: Learning multiple layers of features from tiny "
        "images. University of Toronto, 2009",
    ),
    "svhn_cropped": Info(
        version="3.1.0",
        shape=(32, 32, 3),
        class_names=_DIGITS,
        counts={"train": 73257, "test": 26032},
        download=246316178,
        where="http://ufldl.stanford.edu/housenumbers/",
        licence="for non-commercial use only",
        citation="Y. Netzer, T. Wang, A. Coates, A. Bissacco, B. Wu, A. Y. Ng: "
        "Reading digits in natural images with unsupervised feature learning. NIPS "
        "Workshop on Deep Learning and Unsupervised Feature Learning, 2011",
    ),
    "gtsrb": Info(
        version="1.0.0",
        shape=(32, 32, 3),
        class_names=tuple(_SIGNS.splitlines()),
        counts={"train": 39209, "test": 12630},
        download=365372996,
        where="https://benchmark.ini.rub.de/gtsrb_dataset.html",
        licence="none stated; the publisher asks for citation",
        citation="J. Stallkamp, M. Schlipsing, J. Salmen, C. Igel: The German "
        "Traffic Sign Recognition Benchmark. IJCNN 2011, 1453-1460",
    ),
}
"""ghostjax's own rows of `registry.DATASETS`."""
