"""TFDS builders that prepare the data sets without TensorFlow.

The official ones decode and encode with TensorFlow, and GTSRB's official version in
TFDS does not exist. These have the official names, versions and features, take the
publishers' own files (`raw.py`) through TFDS's download manager, and write ArrayRecord,
so what they prepare is read by `tfds.data_source(name)` too. `source=` takes files that
are already at hand instead; their structure is checked, their checksums are not.

Checksums are SHA-256 with sizes: MNIST, CIFAR-10 and SVHN as in tensorflow-datasets
4.9.10; GTSRB's test archives as in torchvision, its training archive as found in two
public repositories (the MD5 f33fd80ac59bff73c82d25ab499e03a3 of the same archive is in
several more). No download was tried where this was written (no network there).

Deviations: SVHN's `extra` split (1.3 GB) is prepared only if `source` holds its file.
Importing this imports tensorflow_datasets, which takes a second: do it in functions.
"""

import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.download.checksums import UrlInfo

from ghostjax.data import raw
from ghostjax.data.catalog import DATASETS, DataError

__all__ = ["BUILDERS", "Cifar10", "Gtsrb", "Mnist", "Published", "SvhnCropped"]

_MNIST = "https://storage.googleapis.com/cvdf-datasets/mnist/"
_CIFAR = "https://www.cs.toronto.edu/~kriz/"
_SVHN = "http://ufldl.stanford.edu/housenumbers/"
_GTSRB = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370/"

# file name: (folder on the web, bytes, SHA-256)
_FILES = {
    "mnist": {
        "train-images-idx3-ubyte.gz": (
            _MNIST,
            9912422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        "train-labels-idx1-ubyte.gz": (
            _MNIST,
            28881,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        "t10k-images-idx3-ubyte.gz": (
            _MNIST,
            1648877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        "t10k-labels-idx1-ubyte.gz": (
            _MNIST,
            4542,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    },
    "cifar10": {
        "cifar-10-binary.tar.gz": (
            _CIFAR,
            170052171,
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
    },
    "svhn_cropped": {
        "train_32x32.mat": (
            _SVHN,
            182040794,
            "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
        ),
        "test_32x32.mat": (
            _SVHN,
            64275384,
            "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
        ),
    },
    "gtsrb": {
        "GTSRB_Final_Training_Images.zip": (
            _GTSRB,
            276294756,
            "d32ac4b5fa9a1cbd1994768413902e8193599d9434cf0a8eb9cfd00a6d3a290c",
        ),
        "GTSRB_Final_Test_Images.zip": (
            _GTSRB,
            88978620,
            "48ba6fab7e877eb64eaf8de99035b0aaecfbc279bee23e35deca4ac1d0a837fa",
        ),
        "GTSRB_Final_Test_GT.zip": (
            _GTSRB,
            99620,
            "f94e5a7614d75845c74c04ddb26b8796b9e483f43541dd95dd5b726504e16d6d",
        ),
    },
}
_IDX = {"train": "train", "test": "t10k"}  # MNIST's words


# To mypy a builder of TFDS, which has no types, is Any, and takes no arguments.
class Published(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[misc, call-arg]
    """What the four have in common; a subclass sets `name` and reads its files."""

    VERSION = tfds.core.Version("0.0.0")
    WITH_ID = True

    def __init__(self, *, source: str | Path | None = None, **kwargs: Any) -> None:
        """Args: source: a folder (GTSRB: or zip) with the files; else TFDS's own."""
        self._source = source
        super().__init__(file_format="array_record", **kwargs)

    @property
    def url_infos(self) -> dict[str, UrlInfo]:
        """Size and SHA-256 by address; the download manager checks them."""
        return {
            _url(self.name, file): UrlInfo(size=size, checksum=sha256, filename=file)
            for file, (_, size, sha256) in _FILES[self.name].items()
        }

    def _info(self) -> tfds.core.DatasetInfo:
        info = DATASETS[self.name]
        features = {
            "image": tfds.features.Image(shape=info.shape),
            "label": tfds.features.ClassLabel(**_labels(self.name)),
        }
        if self.WITH_ID:
            features["id"] = tfds.features.Text()
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{self.name} as published, prepared by ghostjax.",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage=info.where,
            citation=info.citation,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        files = self._files(dl_manager)
        splits = self._splits(files)
        return {split: self._generate_examples(files, split) for split in splits}

    def _generate_examples(self, files: dict[str, Path], split: str) -> Iterator[Any]:
        for key, name, image, label in self._read(files, split):
            example = {"image": Image.fromarray(image.squeeze()), "label": label}
            yield key, example | ({"id": name} if self.WITH_ID else {})

    def _files(self, dl_manager: Any) -> dict[str, Path]:
        """Where the published files lie, by name."""
        if self._source is None:
            urls = {name: _url(self.name, name) for name in _FILES[self.name]}
            _require_network(urls.values())
            paths = dl_manager.download(urls)
            return {name: Path(path) for name, path in paths.items()}
        files = {path.name: path for path in Path(self._source).glob("*")}
        missing = [name for name in _FILES[self.name] if name not in files]
        if missing:
            raise DataError(
                f"{self._source} does not hold {', '.join(missing)}: give the folder "
                f"with the files of {DATASETS[self.name].where}"
            )
        return files

    def _splits(self, files: dict[str, Path]) -> tuple[str, ...]:
        return ("train", "test")

    def _read(self, files: dict[str, Path], split: str) -> Iterator[raw.Raw]:
        raise NotImplementedError


def _require_network(urls: Iterable[str]) -> None:
    """Says at once what TFDS, which retries for minutes, would say in the end."""
    if getproxies():
        return  # names are then the proxy's to resolve
    for host in {urlsplit(url).hostname for url in urls}:
        try:
            socket.getaddrinfo(host, None)
        except OSError as error:
            raise OSError(f"cannot reach {host}: {error.strerror}") from error


def _url(dataset: str, file: str) -> str:
    return _FILES[dataset][file][0] + file


def _labels(dataset: str) -> dict[str, Any]:
    """Named classes, except for digits, which the official builders only count."""
    names = DATASETS[dataset].class_names
    if names[0] == "0":
        return {"num_classes": len(names)}
    return {"names": names}


# Not registered: the official classes hold these names in TFDS's registry.
class Mnist(Published, skip_registration=True):  # type: ignore[call-arg]
    """mnist 3.0.1."""

    name = "mnist"
    VERSION = tfds.core.Version("3.0.1")
    WITH_ID = False

    def _read(self, files: dict[str, Path], split: str) -> Iterator[raw.Raw]:
        images = files[f"{_IDX[split]}-images-idx3-ubyte.gz"]
        labels = files[f"{_IDX[split]}-labels-idx1-ubyte.gz"]
        return raw.mnist(images, labels)


class Cifar10(Published, skip_registration=True):  # type: ignore[call-arg]
    """cifar10 3.0.2."""

    name = "cifar10"
    VERSION = tfds.core.Version("3.0.2")

    def _read(self, files: dict[str, Path], split: str) -> Iterator[raw.Raw]:
        return raw.cifar10(files["cifar-10-binary.tar.gz"], split)


class SvhnCropped(Published, skip_registration=True):  # type: ignore[call-arg]
    """svhn_cropped 3.1.0."""

    name = "svhn_cropped"
    VERSION = tfds.core.Version("3.1.0")

    def _splits(self, files: dict[str, Path]) -> tuple[str, ...]:
        extra = ("extra",) if "extra_32x32.mat" in files else ()
        return ("train", "test", *extra)

    def _read(self, files: dict[str, Path], split: str) -> Iterator[raw.Raw]:
        return raw.svhn(files[f"{split}_32x32.mat"], split)


class Gtsrb(Published, skip_registration=True):  # type: ignore[call-arg]
    """gtsrb 1.0.0: all labelled images, full frames resized to 32x32."""

    name = "gtsrb"
    VERSION = tfds.core.Version("1.0.0")

    def _files(self, dl_manager: Any) -> dict[str, Path]:
        if self._source is None:
            return super()._files(dl_manager)
        return {"source": Path(self._source)}

    def _read(self, files: dict[str, Path], split: str) -> Iterator[raw.Raw]:
        return raw.gtsrb(list(files.values()), split)


BUILDERS: dict[str, type[Published]] = {
    builder.name: builder for builder in (Mnist, Cifar10, SvhnCropped, Gtsrb)
}
