"""The publishers' files, prepared by TFDS without TensorFlow and read back exactly.

The files are small ones that the tests write in the publishers' formats; GTSRB's frames
have other sizes than 32x32, so their oracle resizes them by the definition.
"""

import gzip
import hashlib
import http.server
import io
import json
import os
import shutil
import struct
import sys
import tarfile
import threading
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from ghostjax import data
from ghostjax.data.catalog import DATASETS

NAMES = ("mnist", "cifar10", "svhn_cropped", "gtsrb")
SIZES = {"train": 15, "test": 7}


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("GHOSTJAX_CACHE", str(tmp_path / "cache"))


def drawn(split, *shape):
    draw = np.random.default_rng(len(split))
    count = SIZES[split]
    return draw.integers(0, 256, (count, *shape), np.uint8), np.arange(count) % 10


def write_mnist(folder):
    content = {}
    for split, word in (("train", "train"), ("test", "t10k")):
        images, labels = drawn(split, 28, 28)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = b"\0\0\x08" + struct.pack(
                f">B{array.ndim}I", array.ndim, *array.shape
            )
            packed = gzip.compress(head + array.astype(np.uint8).tobytes())
            (folder / f"{word}-{kind}-ubyte.gz").write_bytes(packed)
        content[split] = (images[..., None], labels)
    return content


def write_cifar10(folder):
    content = {split: drawn(split, 32, 32, 3) for split in SIZES}
    files = {f"data_batch_{i + 1}.bin": rows(content["train"], i) for i in range(5)}
    files["test_batch.bin"] = b"".join(rows(content["test"], i) for i in range(5))
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as tar:
        for name in sorted(files, reverse=True):  # the order in the tar must not count
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(files[name])
            tar.addfile(member, io.BytesIO(files[name]))
    return content


def rows(split, fifth):
    parts = (np.array_split(array, 5)[fifth] for array in split)
    return b"".join(
        bytes([label]) + image.transpose(2, 0, 1).tobytes()
        for image, label in zip(*parts, strict=True)
    )


def write_svhn_cropped(folder):
    content = {}
    for split in SIZES:
        images, labels = content[split] = drawn(split, 32, 32, 3)
        published = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
        arrays = {"X": images.transpose(1, 2, 3, 0), "y": published}
        savemat(folder / f"{split}_32x32.mat", arrays, do_compression=True)
    return content


def write_gtsrb(folder):
    """The three zips, as published: folder per class, tracks, csv with semicolons."""
    content, draw = {}, np.random.default_rng(0)
    csv = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n"
    for split in SIZES:
        images, labels = [], (np.arange(SIZES[split]) * 5) % 43
        frames = {}
        for index, label in enumerate(labels):
            height, width = draw.integers(15, 90, 2)
            frame = draw.integers(0, 256, (height, width, 3), np.uint8)
            images.append(bilinear(frame, 32))
            name = f"{index:05d}.ppm"
            csv += f"{name};{width};{height};5;5;9;9;{label}\n" * (split == "test")
            if split == "train":
                name = f"{label:05d}/{index:05d}_00029.ppm"
            frames[name] = ppm(frame)
        word = {"train": "Training", "test": "Test"}[split]
        archive = folder / f"GTSRB_Final_{word}_Images.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            for name, frame in frames.items():
                file.writestr(f"GTSRB/Final_{word}/Images/{name}", frame)
            file.writestr(f"GTSRB/Final_{word}/Images/GT-final_test.test.csv", "a;b\n")
        content[split] = (np.stack(images), labels)
    with zipfile.ZipFile(folder / "GTSRB_Final_Test_GT.zip", "w") as file:
        file.writestr("GT-final_test.csv", csv)
    return content


def ppm(frame):
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PPM")
    return buffer.getvalue()


def bilinear(frame, size):
    """By the definition: centres aligned, four nearest pixels, edges repeated."""
    for axis in (0, 1):
        length = frame.shape[axis]
        place = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
        low = np.minimum(place.astype(int), length - 2)
        part = (place - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        below, above = (np.take(frame, low + side, axis) for side in (0, 1))
        frame = below * (1 - part) + above * part
    return frame


WRITE = {
    "mnist": write_mnist,
    "cifar10": write_cifar10,
    "svhn_cropped": write_svhn_cropped,
    "gtsrb": write_gtsrb,
}


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def assert_same_images(split, content, tolerance=0.0):
    """The same pairs of image and label; TFDS shuffles them."""
    images, labels = (np.asarray(array, float) for array in content)
    assert len(images) == len(split.labels)
    unused = set(range(len(images)))
    for image, label in zip(split.images, split.labels, strict=True):
        differences = abs(images - image).reshape(len(images), -1).max(axis=1)
        row = int(differences.argmin())
        assert differences[row] <= tolerance and labels[row] == label
        unused.remove(row)


@pytest.mark.parametrize("name", NAMES)
def test_prepared_from_raw_files_and_read_back(name, source, tmp_path):
    content = WRITE[name](source)
    root = tmp_path / "tfds"
    folder = data.prepare(name, data_dir=root, source=source)
    assert folder == root / name / DATASETS[name].version
    dataset = data.load(name, data_dir=root)
    # Pillow's bilinear weights are fixed-point: within 1 of the definition.
    tolerance = 1.01 if name == "gtsrb" else 0
    for split in ("train", "test"):
        assert_same_images(getattr(dataset, split), content[split], tolerance)
    status = {entry.name: entry for entry in data.available(root)}[name]
    assert status[1:] == ("subset", SIZES)
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize("name", ["mnist", "cifar10", "svhn_cropped"])
def test_official_builders_read_what_ours_prepared(name, source, tmp_path):
    """Name, version and features are the official ones, ids and class names too."""
    import tensorflow_datasets as tfds

    from ghostjax.data.builders import BUILDERS

    WRITE[name](source)
    data.prepare(name, data_dir=tmp_path, source=source)
    official = tfds.core.registered.imported_builder_cls(name)
    assert official.__module__.startswith("tensorflow_datasets.")
    fresh = official(data_dir=str(tmp_path / "empty"))  # knows only its own code
    ours = BUILDERS[name](data_dir=str(tmp_path / "empty"))
    assert (ours.name, ours.version) == (fresh.name, fresh.version)
    assert ours.info.supervised_keys == fresh.info.supervised_keys
    features = [builder.info.features.to_json() for builder in (ours, fresh)]
    assert features[0] == features[1]

    builder = official(data_dir=str(tmp_path), file_format="array_record")
    ours = data.load(name, data_dir=tmp_path).train
    examples = list(builder.as_data_source("train"))
    for row, example in enumerate(examples):
        np.testing.assert_array_equal(example["image"], ours.images[row])
        assert example["label"] == ours.labels[row]
    if name != "mnist":
        digits = 5 if name == "cifar10" else 6
        ids = sorted(example["id"].decode() for example in examples)
        assert ids == [f"train_{i:0{digits}d}" for i in range(SIZES["train"])]


@pytest.mark.parametrize("name", ["mnist", "cifar10", "gtsrb"])
def test_metadata_as_in_the_real_folders(name, source, tmp_path):
    root = os.environ.get("TFDS_DATA_DIR")
    real = Path(root or "") / name / DATASETS[name].version
    if not root or not real.is_dir():
        pytest.skip(f"needs {name} in TFDS_DATA_DIR")
    WRITE[name](source)
    ours = data.prepare(name, data_dir=tmp_path, source=source)
    features = [json.loads((f / "features.json").read_text()) for f in (ours, real)]
    assert features[0] == features[1]
    infos = [json.loads((f / "dataset_info.json").read_text()) for f in (ours, real)]
    for key in ("name", "version", "fileFormat", "supervisedKeys"):
        assert infos[0][key] == infos[1][key]
    labels = [f / "label.labels.txt" for f in (ours, real)]
    assert labels[0].exists() == labels[1].exists()
    if labels[1].exists():
        assert labels[0].read_text().split("\n") == labels[1].read_text().split("\n")


def test_gtsrb_ids_and_every_kind_of_source(source, tmp_path):
    """A folder of zips, a zip of zips, an unpacked folder: the same data set."""
    import tensorflow_datasets as tfds

    write_gtsrb(source)
    unpacked, packed = tmp_path / "unpacked", tmp_path / "packed.zip"
    with zipfile.ZipFile(packed, "w") as file:
        for path in source.iterdir():
            file.write(path, f"some/folder/{path.name}")
            zipfile.ZipFile(path).extractall(unpacked)
    images = []
    for number, place in enumerate((source, packed, unpacked)):
        root = tmp_path / str(number)
        folder = data.prepare("gtsrb", data_dir=root, source=place)
        images.append(data.load("gtsrb", data_dir=root).train.images)
    np.testing.assert_array_equal(images[0], images[1])
    np.testing.assert_array_equal(images[0], images[2])
    builder = tfds.builder_from_directory(str(folder))
    examples = {split: list(builder.as_data_source(split)) for split in SIZES}
    ids = {
        key: sorted(e["id"].decode() for e in some) for key, some in examples.items()
    }
    assert ids["train"][1] == "00002/00009_00029.ppm"  # label 9 * 5 % 43
    assert ids["test"] == [f"{i:05d}.ppm" for i in range(SIZES["test"])]


def test_svhn_extra_is_prepared_if_at_hand(source, tmp_path):
    write_svhn_cropped(source)
    shutil.copy(source / "test_32x32.mat", source / "extra_32x32.mat")
    folder = data.prepare("svhn_cropped", data_dir=tmp_path, source=source)
    splits = json.loads((folder / "dataset_info.json").read_text())["splits"]
    assert [split["name"] for split in splits] == ["train", "test", "extra"]


def test_any_prepared_set_of_images_is_read_by_name(tmp_path):
    """As TFDS itself prepares and describes it, whatever its features are called."""
    import tensorflow_datasets as tfds

    content = {split: drawn(split, 6, 8, 3) for split in SIZES}

    class Shapes(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name, VERSION = "shapes", tfds.core.Version("2.1.0")

        def _info(self):
            kinds = {
                "picture": tfds.features.Image(shape=(6, 8, 3)),
                "kind": tfds.features.ClassLabel(names=list("abcdefghij")),
                "about": tfds.features.Text(),
            }
            known = tfds.features.FeaturesDict(kinds)
            return tfds.core.DatasetInfo(builder=self, features=known)

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split) for split in SIZES}

        def _generate_examples(self, split):
            for row, (image, label) in enumerate(zip(*content[split], strict=True)):
                picture = Image.fromarray(image)
                yield row, {"picture": picture, "kind": label, "about": f"no. {row}"}

    builder = Shapes(data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare()
    dataset = data.load("shapes", data_dir=tmp_path)
    assert dataset.class_names == tuple("abcdefghij")
    assert dataset.source == "prepared shapes/2.1.0"
    for split in SIZES:
        assert_same_images(getattr(dataset, split), content[split])
        for row, example in enumerate(builder.as_data_source(split)):
            images, labels = getattr(dataset, split)
            np.testing.assert_array_equal(images[row], example["picture"])
            assert labels[row] == example["kind"]


def test_already_prepared(source, tmp_path):
    write_mnist(source)
    folder = data.prepare("mnist", data_dir=tmp_path, source=source)
    assert data.prepare("mnist", data_dir=tmp_path) == folder
    with pytest.raises(data.DataError, match="already prepared in .*: remove"):
        data.prepare("mnist", data_dir=tmp_path, source=source)


def test_nothing_to_prepare(tmp_path):
    with pytest.raises(data.DataError, match="digits is embedded"):
        data.prepare("digits", data_dir=tmp_path)
    with pytest.raises(data.DataError, match="source .*gone is not there"):
        data.prepare("mnist", data_dir=tmp_path, source=tmp_path / "gone")


def test_missing_raw_files_are_named(source, tmp_path):
    write_mnist(source)
    (source / "t10k-labels-idx1-ubyte.gz").unlink()
    assert_fails("mnist", source, tmp_path, "does not hold t10k-labels-idx1-ubyte.gz:")
    assert_fails("gtsrb", source, tmp_path, "no train frames (.ppm) in ")


def idx(shape, count):
    return gzip.compress(
        b"\0\0\x08" + struct.pack(">BI", 1, shape) + bytes(count), mtime=0
    )


@pytest.mark.parametrize(
    ("name", "file", "content", "reason"),
    [
        ("mnist", "train-labels-idx1-ubyte.gz", b"no gzip", "Not a gzipped file"),
        ("mnist", "train-labels-idx1-ubyte.gz", idx(15, 14), "14 bytes for an array"),
        (
            "mnist",
            "train-labels-idx1-ubyte.gz",
            idx(14, 14),
            "not the images and label",
        ),
        (
            "mnist",
            "train-labels-idx1-ubyte.gz",
            gzip.compress(b"abcdef", mtime=0),
            "no idx file",
        ),
        ("cifar10", "cifar-10-binary.tar.gz", b"no tar", "could not be opened"),
        ("svhn_cropped", "test_32x32.mat", b"no mat file" * 20, "is damaged"),
        ("gtsrb", "GTSRB_Final_Test_GT.zip", b"no zip", "File is not a zip file"),
    ],
)
def test_damaged_raw_files_are_named(name, file, content, reason, source, tmp_path):
    WRITE[name](source)
    (source / file).write_bytes(content)
    message = assert_fails(name, source, tmp_path, reason)
    assert str(source / file) in message


def test_svhn_labels_and_shapes_are_checked(source, tmp_path):
    write_svhn_cropped(source)
    images = np.zeros((32, 32, 3, 2), np.uint8)
    savemat(source / "test_32x32.mat", {"X": images, "y": [[0], [1]]})
    assert_fails("svhn_cropped", source, tmp_path, "a label in y is not between 1 and")
    savemat(source / "test_32x32.mat", {"X": images, "y": [[1]]})
    assert_fails("svhn_cropped", source, tmp_path, "X is uint8 (32, 32, 3, 2), not")


def test_gtsrb_labels_are_required(source, tmp_path):
    write_gtsrb(source)
    (source / "GTSRB_Final_Test_GT.zip").unlink()
    assert_fails(
        "gtsrb", source, tmp_path, "no label for test frame 00000.ppm: add GT-"
    )


def assert_fails(name, source, tmp_path, reason):
    root = tmp_path / "out"
    with pytest.raises(data.DataError) as error:
        data.prepare(name, data_dir=root, source=source)
    message = str(error.value)
    assert reason in message and "\n" not in message, message
    # Nothing half-made is taken for a data set afterwards.
    assert {f.name: f.status for f in data.available(root)}[name] == "not prepared"
    return message


@pytest.fixture
def server(source):
    """A web server on this machine with the content of `source`; its address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = partial(Quiet, directory=str(source))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def test_download_is_checked(server, source, tmp_path, monkeypatch):
    """TFDS's download manager fetches the files and refuses another checksum."""
    from ghostjax.data import builders

    content = write_mnist(source)
    for host in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(host, raising=False)
    files = {
        path.name: (server, path.stat().st_size, sha256(path))
        for path in source.iterdir()
    }
    monkeypatch.setitem(builders._FILES, "mnist", files)
    data.prepare("mnist", data_dir=tmp_path / "good")
    dataset = data.load("mnist", data_dir=tmp_path / "good")
    assert_same_images(dataset.train, content["train"])

    file = "t10k-labels-idx1-ubyte.gz"
    wrong = (server + "./", files[file][1], "0" * 64)  # another address: not memoized
    monkeypatch.setitem(builders._FILES, "mnist", files | {file: wrong})
    with pytest.raises(data.DataError, match="could not download mnist: .*wrong check"):
        data.prepare("mnist", data_dir=tmp_path / "bad")


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_checksums_are_the_official_ones():
    """Against the tables inside tensorflow-datasets."""
    import tensorflow_datasets as tfds

    from ghostjax.data.builders import BUILDERS

    package = Path(tfds.__file__).parent
    tables = {
        "mnist": package / "url_checksums" / "mnist.txt",
        "cifar10": package / "url_checksums" / "cifar10.txt",
        "svhn_cropped": package / "datasets" / "svhn_cropped" / "checksums.tsv",
    }
    for name, builder in BUILDERS.items():
        ours = builder.url_infos.fget(builder)
        assert sum(info.size for info in ours.values()) == DATASETS[name].download
        if name in tables:
            official = tfds.download.checksums.load_url_infos(tables[name])
            assert ours.items() <= official.items()


def test_no_network(tmp_path, monkeypatch):
    def unresolved(*_):
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr("ghostjax.data.builders.getproxies", dict)
    monkeypatch.setattr("socket.getaddrinfo", unresolved)
    with pytest.raises(data.DataError) as error:
        data.prepare("cifar10", data_dir=tmp_path)
    assert "cannot reach www.cs.toronto.edu: Name or service" in str(error.value)
    assert "`ghostjax data prepare cifar10 --source FOLDER`" in str(error.value)


def test_unwritable_folder(source, tmp_path):
    write_mnist(source)
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(
        data.DataError, match="cannot write mnist to .*: Not a directory"
    ):
        data.prepare("mnist", data_dir=tmp_path / "file", source=source)
