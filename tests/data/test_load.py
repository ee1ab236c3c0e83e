"""Prepared data and the embedded digits are read exactly, or named when they cannot.

Small prepared folders are written here by hand, record by record, so that reading is
tested apart from our builders. Tests of the real data read TFDS_DATA_DIR.
"""

import hashlib
import io
import json
import os
import shutil
import struct
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ghostjax import data
from ghostjax.data import cache, digits, prepared, shards
from ghostjax.data.catalog import DATASETS

COUNTS = {"train": [3, 2], "test": [4]}  # records per shard


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    """Each test has a cache of its own."""
    monkeypatch.setenv("GHOSTJAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data"


@pytest.fixture(params=["array_record", "tfrecord"])
def mnist(request, tmp_path):
    """(data_dir, what it holds) of a tiny prepared mnist, in either format."""
    return write_prepared(tmp_path / "tfds", request.param)


def write_prepared(
    root, file_format="array_record", version="3.0.1", name="mnist", counts=COUNTS
):
    """Writes mnist as TFDS lays it out, or another data set like it; returns (root,
    images and labels by split)."""
    draw = np.random.default_rng(7)
    folder = root / name / version
    folder.mkdir(parents=True)
    content, splits = {}, []
    word = name.split("/")[0]
    for split, lengths in counts.items():
        images = draw.integers(0, 256, (sum(lengths), 28, 28, 1), np.uint8)
        labels = draw.integers(0, 10, sum(lengths)).astype(np.int32)
        content[split] = (images, labels)
        examples = [example(*pair) for pair in zip(images, labels, strict=True)]
        for index, length in enumerate(lengths):
            file = f"{word}-{split}.{file_format}-{index:05d}-of-{len(lengths):05d}"
            write_shard(folder / file, examples[:length], file_format)
            del examples[:length]
        shard_lengths = [str(length) for length in lengths]
        splits.append({"name": split, "shardLengths": shard_lengths})
    info = {"name": word, "fileFormat": file_format, "splits": splits}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return root, content


def example(image, label):
    from tensorflow_datasets.proto import tf_example_pb2

    record = tf_example_pb2.Example()
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze()).save(buffer, "PNG")
    record.features.feature["image"].bytes_list.value.append(buffer.getvalue())
    record.features.feature["label"].int64_list.value.append(int(label))
    return record.SerializeToString()


def write_shard(path, examples, file_format):
    if file_format == "tfrecord":
        path.write_bytes(b"".join(map(tfrecord, examples)))
        return
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(path), "group_size:1")
    for record in examples:
        writer.write(record)
    writer.close()


def tfrecord(record):
    length = struct.pack("<Q", len(record))
    sums = (struct.pack("<I", masked(piece)) for piece in (length, record))
    return length + next(sums) + record + next(sums)


def masked(piece):
    """TensorFlow's masked CRC-32C, bit by bit from the definition."""
    crc = 0xFFFFFFFF
    for byte in piece:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 * (crc & 1))
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def shard(root):
    return next((root / "mnist").glob("*/mnist-train*-00001-of-00002"))


def assert_holds(dataset, content):
    for split in ("train", "test"):
        images, labels = getattr(dataset, split)
        np.testing.assert_array_equal(images, content[split][0])
        np.testing.assert_array_equal(labels, content[split][1])
        assert (images.dtype, labels.dtype) == (np.uint8, np.int32)


def test_prepared_subset_is_read_exactly(mnist, caches):
    root, content = mnist
    for _ in range(2):  # decoded, then out of the cache
        dataset = data.load("mnist", data_dir=root)
        assert_holds(dataset, content)
    assert len(list(caches.glob("mnist-3.0.1-*.npz"))) == 1
    assert dataset.source == "prepared mnist/3.0.1"
    assert dataset.class_names == tuple("0123456789")


def test_data_dir_from_the_environment(tmp_path, monkeypatch):
    root, content = write_prepared(tmp_path / "tfds")
    monkeypatch.setenv("TFDS_DATA_DIR", str(root))
    assert_holds(data.load("mnist"), content)


def test_another_version_is_read_if_the_official_is_not_there(tmp_path):
    root, content = write_prepared(tmp_path, version="3.0.10")
    (tmp_path / "mnist" / "3.0.9").mkdir()
    (tmp_path / "mnist" / "3.0.9" / "dataset_info.json").write_text("{}")
    dataset = data.load("mnist", data_dir=root)
    assert_holds(dataset, content)
    assert dataset.source == "prepared mnist/3.0.10"


def test_class_names_lie_with_the_data(tmp_path):
    root, _ = write_prepared(tmp_path)
    names = root / "mnist" / "3.0.1" / "label.labels.txt"
    names.write_text("\n".join("abcdefghij"))
    assert data.load("mnist", data_dir=root).class_names == tuple("abcdefghij")
    names.write_text("a\nb")
    with pytest.raises(data.DataError, match="label.labels.txt is damaged .2 names"):
        data.load("mnist", data_dir=root)


def features(shape=(28, 28, 1), dtype="uint8", classes=10, **more):
    """features.json of images and labels, and of more features."""
    image = {"shape": {"dimensions": list(map(str, shape))}, "dtype": dtype}
    known = {
        "image": {"image": image},
        "label": {"classLabel": {"numClasses": classes}},
    }
    return {"featuresDict": {"features": {**known, **more}}}


def write_json(root, name, file, content):
    (path,) = root.glob(f"{name}/*/dataset_info.json")
    (path.parent / file).write_text(json.dumps(content))
    return path.parent


@pytest.mark.parametrize("name", ["fashion", "emnist/letters"])
def test_what_tfds_has_prepared_is_read_by_name(name, tmp_path, caches):
    root, content = write_prepared(tmp_path / "tfds", "tfrecord", "1.2.3", name)
    more = {"id": {"text": {}}, "index": {"tensor": {}}}
    folder = write_json(root, name, "features.json", features(**more))
    for _ in range(2):
        dataset = data.load(name, data_dir=root)
        assert_holds(dataset, content)
    assert (dataset.name, dataset.source) == (name, f"prepared {name}/1.2.3")
    assert dataset.class_names == tuple("0123456789")
    assert len(list(caches.iterdir())) == 1
    known = data.info(name, data_dir=root)
    assert (known.shape, known.classes, known.version) == ((28, 28, 1), 10, "1.2.3")
    (folder / "label.labels.txt").write_text("\n".join("abcdefghij"))
    assert data.load(name, data_dir=root).class_names == tuple("abcdefghij")
    listed = {entry.name: entry[1:] for entry in data.available(root)}
    assert list(listed) == [*DATASETS, name]
    assert listed[name] == ("prepared", {"train": 5, "test": 4})
    with pytest.raises(data.DataError, match=f"did you mean '{name}'.*looked for in"):
        data.load(f"{name}s", data_dir=root)
    assert data.prepare(name, data_dir=root) == folder


def test_the_features_are_found_by_what_they_are(tmp_path):
    """The only ones of their kind, else those that TFDS calls supervised."""
    root, content = write_prepared(tmp_path, name="fine")
    label = {"classLabel": {"numClasses": "3"}}
    write_json(root, "fine", "features.json", features(coarse=label))
    with pytest.raises(data.DataError) as error:
        data.load("fine", data_dir=root)
    assert "its images are image and its labels label, coarse: one" in str(error.value)
    info = json.loads((root / "fine" / "3.0.1" / "dataset_info.json").read_text())
    items = [{"featureKey": "image"}, {"featureKey": "label"}]
    write_json(
        root,
        "fine",
        "dataset_info.json",
        {**info, "supervisedKeys": {"tuple": {"items": items}}},
    )
    assert_holds(data.load("fine", data_dir=root), content)


def test_where_tfds_knows_no_test_split(tmp_path):
    counts = {"train": [3, 2], "validation": [4]}
    root, content = write_prepared(tmp_path, name="fashion", counts=counts)
    write_json(root, "fashion", "features.json", features())
    dataset = data.load("fashion", data_dir=root)
    assert_holds(dataset, {**content, "test": content["validation"]})
    assert dataset.source == "prepared fashion/3.0.1, its validation split as test"

    root, content = write_prepared(tmp_path, name="alone", counts={"train": [60]})
    write_json(root, "alone", "features.json", features())
    dataset = data.load("alone", data_dir=root)
    assert dataset.source.endswith(
        "alone/3.0.1, a fifth of each class held out as test"
    )
    images, labels = content["train"]
    counts = np.bincount(labels)
    np.testing.assert_array_equal(
        np.bincount(dataset.test.labels), np.maximum(np.rint(counts / 5), 1)
    )
    both = np.concatenate([dataset.train.images, dataset.test.images])
    assert {image.tobytes() for image in both} == {x.tobytes() for x in images}
    listed = {entry.name: entry.counts for entry in data.available(tmp_path)}
    assert listed["alone"] == {"train": 60}


UNREADABLE = {
    "shape": (features((-1, -1, 3)), "its images have no fixed shape (? x ? x 3): wri"),
    "no shape": (features(()), "its images have no fixed shape (none)"),
    "channels": (features((28, 28, 4)), "its images are uint8 28 x 28 x 4: uint8 with"),
    "dtype": (features(dtype="float32"), "its images are float32 28 x 28 x 1: uint8"),
    "texts": (
        {"featuresDict": {"features": {"text": {"text": {}}}}},
        "its images are none and its labels none: one of each is wanted",
    ),
    "old": ({"type": "FeaturesDict", "content": "{}"}, "features.json is damaged (Key"),
    "a list": ([], "features.json is damaged (TypeError"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_is_no_data_set_of_images_is_named(case, tmp_path):
    content, said = UNREADABLE[case]
    root, _ = write_prepared(tmp_path, name="fashion")
    write_json(root, "fashion", "features.json", content)
    with pytest.raises(data.DataError) as error:
        data.load("fashion", data_dir=root)
    assert said in str(error.value) and "\n" not in str(error.value), error.value
    assert str(root / "fashion" / "3.0.1") in str(error.value)
    assert [entry.name for entry in data.available(root)] == list(DATASETS)


def test_features_json_must_be_there(tmp_path):
    root, _ = write_prepared(tmp_path, name="fashion")
    with pytest.raises(data.DataError, match="features.json cannot be read: No such"):
        data.load("fashion", data_dir=root)


def test_unknown_name():
    with pytest.raises(data.DataError, match="'minst': did you mean 'mnist'. known: d"):
        data.load("minst")
    with pytest.raises(
        data.DataError, match="unknown data set 'svhn': did you mean 's"
    ):
        data.prepare("svhn")


def test_not_prepared(tmp_path):
    with pytest.raises(data.DataError) as error:
        data.load("mnist", data_dir=tmp_path)
    assert f"no mnist/3.0.1 in {tmp_path}" in str(error.value)
    command = f"`TFDS_DATA_DIR={tmp_path} ghostjax data prepare mnist`"
    assert command in str(error.value)


def test_damaged_shard_is_named(mnist):
    root, _ = mnist
    path = shard(root)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(b"IDAT") + 20] ^= 4
    for broken in (bytes(flipped), whole[: len(whole) // 3], b"nonsense" * 40):
        path.write_bytes(broken)
        assert_named(path, root, "is damaged")
    path.unlink()
    assert_named(path, root, "is not there")


def test_every_flipped_bit_of_a_tfrecord_is_noticed(tmp_path):
    root, _ = write_prepared(tmp_path, "tfrecord")
    path = shard(root)
    whole = path.read_bytes()
    for at in np.random.default_rng(0).integers(0, len(whole), 40):
        broken = bytearray(whole)
        broken[at] ^= 1
        path.write_bytes(broken)
        assert_named(path, root, "is damaged")


def test_wrong_content_is_named(tmp_path):
    root, content = write_prepared(tmp_path)
    path = shard(root)
    image = content["train"][0][0]
    write_shard(path, [example(image, 3)], "array_record")
    assert_named(path, root, "1 records, dataset_info.json says 2")
    write_shard(path, [example(image, 3), example(image, 10)], "array_record")
    assert_named(path, root, "record 1: label 10 of 10 classes")
    write_shard(path, [example(image[:20], 3)] * 2, "array_record")
    assert_named(path, root, r"record 0: an image (28, 20) of mode 'L'")
    write_shard(path, [b"\xff\xff"] * 2, "array_record")
    assert_named(path, root, "record 0: not a tf.train.Example")


def test_damaged_dataset_info_is_named(tmp_path):
    root, _ = write_prepared(tmp_path)
    path = root / "mnist" / "3.0.1" / "dataset_info.json"
    for broken in (path.read_text()[:60], "[]", '{"splits": [{}]}', ""):
        path.write_text(broken)
        assert_named(path, root, "is damaged")
        status = {s.name: s.status for s in data.available(root)}["mnist"]
        assert status.startswith("damaged: ") and str(path) in status
    path.write_text('{"name": "mnist", "splits": []}')
    with pytest.raises(data.DataError, match="names no split 'train', only none"):
        data.load("mnist", data_dir=root)


@pytest.mark.parametrize(
    "template",
    ["{0}", "{}", "{", "{DATASET.x}", "{DATASET!r}", "../../{DATASET}", "/etc/{SPLIT}",
     "a/{SPLIT}", 3, ["a"], "{SPLIT:>9}", "a\nb"],
)  # fmt: skip
def test_a_template_is_no_format_and_no_path(tmp_path, template):
    root, _ = write_prepared(tmp_path)
    path = root / "mnist" / "3.0.1" / "dataset_info.json"
    info = json.loads(path.read_text())
    for split in info["splits"]:
        split["filepathTemplate"] = template
    path.write_text(json.dumps(info))
    status = {s.name: s.status for s in data.available(root)}["mnist"]
    assert status.startswith("damaged: ") and str(path) in status
    assert_named(path, root, "is damaged")


@pytest.mark.parametrize("name", ["a[x]b", "*", "{0}", "%41", "ünï日", "sp ace"])
def test_a_folder_of_data_is_never_a_pattern(tmp_path, monkeypatch, name):
    monkeypatch.setenv("GHOSTJAX_CACHE", str(tmp_path / name / "cache"))
    root, content = write_prepared(tmp_path / name, version=f"9.{name}")
    for _ in range(2):  # decoded, then from the cache
        assert_holds(data.load("mnist", data_dir=root), content)
    assert len(list((tmp_path / name / "cache" / "data").iterdir())) == 1


def assert_named(path, root, reason):
    with pytest.raises(data.DataError) as error:
        data.load("mnist", data_dir=root)
    message = str(error.value)
    assert str(path) in message and reason in message, message
    assert "\n" not in message


def test_changed_file_invalidates_the_cache(tmp_path, caches):
    root, content = write_prepared(tmp_path / "tfds")
    data.load("mnist", data_dir=root)
    before = list(caches.iterdir())
    path = shard(root)
    times = path.stat()
    images, labels = content["train"]
    images[3] = 255 - images[3]
    write_shard(path, [example(images[i], labels[i]) for i in (3, 4)], "array_record")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    assert_holds(data.load("mnist", data_dir=root), content)
    assert len(list(caches.iterdir())) == 1  # the older state is gone
    assert list(caches.iterdir()) != before


def test_cache_is_used_and_not_shared_between_folders(tmp_path, caches, monkeypatch):
    first, content = write_prepared(tmp_path / "first")
    data.load("mnist", data_dir=first)

    def no_decoding(*_):
        raise AssertionError("decoded again")

    monkeypatch.setattr("ghostjax.data.prepared.read_split", no_decoding)
    assert_holds(data.load("mnist", data_dir=first), content)
    # Of the same sizes and times, but another folder.
    second = Path(shutil.copytree(first, tmp_path / "second"))
    with pytest.raises(AssertionError, match="decoded again"):
        data.load("mnist", data_dir=second)


def test_damaged_cache_is_named_and_left_alone(tmp_path, caches):
    root, _ = write_prepared(tmp_path / "tfds")
    data.load("mnist", data_dir=root)
    (path,) = caches.iterdir()
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    np.savez(tmp_path / "other.npz", train_images=np.zeros(3))
    other = (tmp_path / "other.npz").read_bytes()
    for broken in (bytes(flipped), whole[:999], b"", b"nonsense", other):
        path.write_bytes(broken)
        with pytest.raises(data.DataError, match="delete it") as error:
            data.load("mnist", data_dir=root)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
        assert path.read_bytes() == broken


def test_unwritable_cache_is_no_error(tmp_path, monkeypatch):
    root, content = write_prepared(tmp_path / "tfds")
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("GHOSTJAX_CACHE", str(tmp_path / "file" / "cache"))
    assert_holds(data.load("mnist", data_dir=root), content)


def test_failed_write_leaves_no_file(tmp_path, monkeypatch):
    def full(file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    split = data.Split(np.zeros((1, 28, 28, 1), np.uint8), np.zeros(1, np.int32))
    cache.write(tmp_path / "a" / "x-1-2.npz", {"train": split, "test": split})
    assert list((tmp_path / "a").iterdir()) == []


def test_available(tmp_path):
    root, _ = write_prepared(tmp_path)
    statuses = {status.name: status for status in data.available(root)}
    assert list(statuses) == list(DATASETS)
    assert statuses["digits"][1:] == ("embedded", {"train": 1437, "test": 360})
    assert statuses["mnist"][1:] == ("subset", {"train": 5, "test": 4})
    assert statuses["cifar10"][1:] == ("not prepared", {})
    path = shard(root)
    path.unlink()
    statuses = {status.name: status for status in data.available(root)}
    assert statuses["mnist"].status == f"damaged: {path} is not there"


def test_digits_is_deterministic_stratified_and_whole():
    dataset, again = data.load("digits"), data.load("digits")
    assert dataset.source == "embedded"
    for split, count in (("train", 1437), ("test", 360)):
        images, labels = getattr(dataset, split)
        assert images.shape == (count, 28, 28, 1) and images.dtype == np.uint8
        assert labels.dtype == np.int32
        np.testing.assert_array_equal(images, getattr(again, split).images)
        np.testing.assert_array_equal(labels, getattr(again, split).labels)
        # Mixed: no class comes in one block.
        assert (np.diff(labels) != 0).mean() > 0.8
    published = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    test = np.bincount(dataset.test.labels)
    np.testing.assert_array_equal(test + np.bincount(dataset.train.labels), published)
    assert (abs(test - np.divide(published, 5)) < 1).all()


def test_digits_are_the_bicubic_enlargement():
    from sklearn.datasets import load_digits

    bundle = load_digits()
    weights = bicubic_weights(8, 28)
    # Pillow resizes rows first and keeps bytes in between.
    rows = np.clip(np.rint(np.rint(bundle.images * 255 / 16) @ weights.T), 0, 255)
    expected = np.clip(weights @ rows, 0, 255)
    dataset = data.load("digits")
    splits = zip(dataset.train, dataset.test, strict=True)
    images, labels = (np.concatenate(parts) for parts in splits)
    # Order-free: every published image, with its label, within rounding of one of ours.
    for label in range(10):
        ours = images[labels == label].reshape(-1, 784).astype(float)
        for image in expected[bundle.target == label].reshape(-1, 784):
            assert abs(ours - image).max(axis=1).min() < 2


def test_digits_need_scikit_learns_file(monkeypatch):
    monkeypatch.setattr(digits, "find_spec", lambda name: None)
    with pytest.raises(data.DataError, match="install scikit-learn") as error:
        digits._all.__wrapped__()
    assert "\n" not in str(error.value)


@pytest.mark.science
def test_digits_are_the_same_where_scikit_learn_keeps_them_elsewhere(monkeypatch):
    images, labels = digits._all()
    monkeypatch.setattr(digits, "_file", lambda: Path("elsewhere"))
    for one, other in zip(digits._all.__wrapped__(), (images, labels), strict=True):
        np.testing.assert_array_equal(one, other)


def bicubic_weights(old, new):
    """Keys' kernel, a = -0.5, edges renormalised; [new, old]."""
    centre = (np.arange(new)[:, None] + 0.5) * old / new - 0.5
    x = abs(np.arange(old)[None] - centre)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    weights = np.where(x < 1, near, np.where(x < 2, far, 0))
    return weights / weights.sum(axis=1, keepdims=True)


def test_crc32c_known_value():
    # RFC 3720 B.4 and the usual check value, unmasked.
    for piece, crc in ((b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA)):
        mask = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
        assert shards.masked_crc32c([b"", piece, b"x" * 50])[1] == mask == masked(piece)


def test_importing_is_light():
    code = (
        "import sys, ghostjax.data as d; d.available('/nonexistent');"
        "heavy = {'jax', 'tensorflow', 'tensorflow_datasets', 'sklearn', 'scipy'};"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# The real data, where they are.

COUNTED = {  # training and test images per class
    "mnist": (
        "5923 6742 5958 6131 5842 5421 5918 6265 5851 5949",
        "980 1135 1032 1010 982 892 958 1028 974 1009",
    ),
    "gtsrb": (  # the sample of 20,000 and 6,000
        "107 1132 1148 719 1010 949 214 735 719 750 1025 673 1071 1102 398 321 214 "
        "566 612 107 184 168 199 260 138 765 306 123 276 138 230 398 122 352 214 612 "
        "199 107 1056 153 184 122 122",
        "29 342 356 214 314 299 71 214 214 228 314 200 328 342 128 100 71 171 185 28 "
        "43 43 57 71 43 228 86 28 71 43 71 128 28 100 57 185 57 28 328 43 43 28 43",
    ),
}


def real(name):
    """TFDS_DATA_DIR, if `name` is prepared in it."""
    root = os.environ.get("TFDS_DATA_DIR")
    if not root or not (Path(root) / name / DATASETS[name].version).is_dir():
        pytest.skip(f"needs {name} in TFDS_DATA_DIR")
    return Path(root)


@lru_cache
def real_data(root, name):
    return data.load(name, data_dir=root)


@lru_cache
def real_test(root, name):
    """Its test split alone, decoded: of MNIST a seventh of the time."""
    folder = root / name / DATASETS[name].version
    return prepared.read_split(prepared.shards(folder)["test"], DATASETS[name])


MNIST = [  # decoding the training images takes six times as long
    pytest.param("train", marks=pytest.mark.science),
    "test",
]
REAL = [
    ("mnist", "test"),
    *(
        pytest.param(name, split, marks=pytest.mark.science)
        for name, split in (
            ("mnist", "train"),
            ("gtsrb", "train"),
            ("gtsrb", "test"),
        )
    ),
]


@pytest.mark.parametrize(("name", "split"), REAL)
def test_real_counts(name, split):
    root = real(name)
    loaded = real_test(root, name) if split == "test" else real_data(root, name).train
    counts = [int(count) for count in COUNTED[name][split == "test"].split()]
    if name != "mnist" and len(loaded.labels) != sum(counts):
        pytest.skip(f"another selection of {name} than the sampled one")
    np.testing.assert_array_equal(np.bincount(loaded.labels), counts)


@pytest.mark.parametrize("split", MNIST)
def test_real_mnist_pixels(split):
    root = real("mnist")
    loaded = (
        real_test(root, "mnist") if split == "test" else real_data(root, "mnist").train
    )
    # The published mean and deviation of the pixels.
    mean, deviation = {"train": (0.1307, 0.3081), "test": (0.1325, 0.3105)}[split]
    assert loaded.images.mean() / 255 == pytest.approx(mean, abs=5e-5)
    assert loaded.images.std() / 255 == pytest.approx(deviation, abs=5e-5)


@pytest.mark.science
def test_real_gtsrb_is_the_sampled_one():
    """Pixels, labels and order against the README's SHA-256 over the sorted ids."""
    import tensorflow_datasets as tfds

    root = real("gtsrb")
    split = real_test(root, "gtsrb")
    builder = tfds.builder_from_directory(str(root / "gtsrb" / "1.0.0"))
    decoders = {"image": tfds.decode.SkipDecoding()}
    source = builder.as_data_source("test", decoders=decoders)
    names = [bytes(example["id"]) for example in source]
    digest = hashlib.sha256()
    for row in np.argsort(names):
        digest.update(bytes([split.labels[row]]) + split.images[row].tobytes())
    if len(names) != 6000:
        pytest.skip("another selection of gtsrb than the sampled one")
    expected = "7bc2a6fd253f8e225771556929b25aec378dc00690aeb39f57fbf06c0acaf25a"
    assert digest.hexdigest() == expected


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.science] * (name != "mnist"))
        for name in ("mnist", "cifar10", "gtsrb")
    ],
)
def test_real_data_as_tfds_reads_them(name):
    import tensorflow_datasets as tfds

    root = real(name)
    folder = root / name / DATASETS[name].version
    source = tfds.builder_from_directory(str(folder)).as_data_source("test")
    split = real_test(root, name)
    assert len(source) == len(split.labels)
    for row in np.linspace(0, len(source) - 1, 50, dtype=int):
        np.testing.assert_array_equal(source[row]["image"], split.images[row])
        assert source[row]["label"] == split.labels[row]
