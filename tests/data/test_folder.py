"""Folders of images: one a class, divided by a rule or by train/ and test/."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ghostjax import data
from ghostjax.data import folder

BICUBIC = Image.Resampling.BICUBIC
COUNTS = {"cat": 10, "Dog": 5}  # sorted: Dog, cat


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("GHOSTJAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data"


@pytest.fixture
def pets(tmp_path):
    """A folder of small noise."""
    write(tmp_path / "pets")
    return tmp_path / "pets"


def write(root, counts=COUNTS, suffix="png", shape=(6, 8)):
    draw = np.random.default_rng(len(root.name))
    for name, count in counts.items():
        for place in range(count):
            path = root / name / f"{place}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            save(path, draw.integers(0, 256, shape, np.uint8))


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))


def places(root, split):
    """The file that each image of a split is of, and its label."""
    files = {pixels(path).tobytes(): path for path in root.rglob("*.png")}
    paths = [files[image.tobytes()] for image in split.images]
    return [path.relative_to(root).as_posix() for path in paths], split.labels


def test_every_image_is_there_once_with_its_label(pets):
    dataset = data.from_folder(pets)
    assert (dataset.name, dataset.class_names) == ("pets", ("Dog", "cat"))
    assert dataset.source == f"folder {pets}"
    assert dataset.train.images.shape[1:] == (6, 8, 1)
    parts = (places(pets, split) for split in (dataset.train, dataset.test))
    words, labels = zip(*parts, strict=True)
    assert sorted([*words[0], *words[1]]) == sorted(
        path.relative_to(pets).as_posix() for path in pets.rglob("*.png")
    )
    for split, chosen in zip(words, labels, strict=True):
        assert [word[:3] for word in split] == [("Dog", "cat")[x] for x in chosen]
    np.testing.assert_array_equal(np.bincount(labels[1]), [1, 2])  # a fifth of each


def test_reading_again_gives_the_same_and_the_cache_is_its_files(pets, caches):
    first = data.from_folder(pets)
    (stored,) = caches.glob("folder-*.npz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder, "_pixels", None)
        assert data.from_folder(pets).fingerprint == first.fingerprint
    moved = Path(shutil.move(pets, pets.parent / "animals"))
    other = data.from_folder(moved)
    assert (other.fingerprint, other.name) == (first.fingerprint, "animals")
    assert data.from_folder(moved, seed=1).fingerprint != first.fingerprint
    half = data.from_folder(moved, test_share=0.5)
    assert len(half.test.labels) == 2 + 5
    # One pixel of one file, whose size and times stay.
    image = pixels(moved / "cat" / "3.png")
    save(moved / "cat" / "3.png", image ^ (np.indices(image.shape).sum(0) == 0))
    assert data.from_folder(moved).fingerprint != first.fingerprint
    assert stored.exists() and len(list(caches.iterdir())) == 4


def test_folders_train_and_test_are_the_splits(tmp_path):
    root = tmp_path / "pets"
    write(root / "train", {"a": 3, "b": 2})
    write(root / "test", {"a": 1, "b": 1})
    (root / "val" / "c").mkdir(parents=True)  # not asked for
    dataset = data.from_folder(root, name="divided")
    assert (dataset.name, dataset.class_names) == ("divided", ("a", "b"))
    for split in ("train", "test"):
        words, labels = places(root, getattr(dataset, split))
        assert {word.split("/")[0] for word in words} == {split}
        assert [word.split("/")[1] for word in words] == ["ab"[x] for x in labels]
    assert (len(dataset.train.labels), len(dataset.test.labels)) == (5, 2)
    shutil.rmtree(root / "test" / "b")
    with pytest.raises(data.DataError, match="test has no folder 'b'"):
        data.from_folder(root)


@pytest.mark.parametrize("suffix", ["png", "jpg", "JPEG", "bmp", "gif"])
def test_formats_and_resizing(tmp_path, suffix):
    write(tmp_path / "pets", {"a": 2, "b": 2}, suffix, (20, 30))
    (tmp_path / "pets" / "a" / "notes.txt").write_text("passed over")
    (tmp_path / "pets" / ".DS_Store").write_text("passed over")
    dataset = data.from_folder(tmp_path / "pets", size=(10, 12))
    files = map(pixels, (tmp_path / "pets").rglob(f"*.{suffix}"))
    small = {
        np.asarray(Image.fromarray(image).resize((12, 10), BICUBIC)).tobytes()
        for image in files
    }
    images = np.concatenate([dataset.train.images, dataset.test.images])
    assert images.shape == (4, 10, 12, 1)
    assert {image.tobytes() for image in images} == small


def test_one_image_with_colours_makes_all_rgb(pets):
    grey = pixels(pets / "cat" / "0.png")
    colours = np.stack([grey, 255 - grey, grey], -1)
    save(pets / "cat" / "7.png", colours)
    save(pets / "cat" / "8.png", np.dstack([colours, np.full_like(grey, 255)]))
    Image.fromarray(grey > 99).save(pets / "cat" / "9.png")  # 1 bit a pixel
    dataset = data.from_folder(pets)
    images = [*dataset.train.images, *dataset.test.images]
    assert sum((image == colours).all() for image in images) == 2
    assert sum((image == grey[..., None]).all() for image in images) == 1
    assert sum((image == 255 * (grey > 99)[..., None]).all() for image in images) == 1


def test_a_photograph_is_turned_upright(pets):
    upright = pixels(pets / "cat" / "0.png")
    turned = Image.fromarray(np.rot90(upright).copy())
    exif = turned.getexif()
    exif[0x0112] = 6  # turn it clockwise to see it
    turned.save(pets / "cat" / "0.png", exif=exif)
    dataset = data.from_folder(pets)
    images = [*dataset.train.images[..., 0], *dataset.test.images[..., 0]]
    assert sum((image == upright).all() for image in images) == 1


def damage(path):
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def moving(path):
    frames = [Image.fromarray(np.full((6, 8), grey, np.uint8)) for grey in (0, 255)]
    frames[0].save(path.with_suffix(".gif"), save_all=True, append_images=frames[1:])
    path.unlink()


def transparent(path):
    save(path, np.zeros((6, 8, 4), np.uint8))


BAD = {
    "half a file": (damage, "cat/4.png is no image that can be used: "),
    "no image": (lambda p: p.write_text("text"), "cat/4.png is no image that can be u"),
    "another size": (
        lambda p: save(p, np.zeros((8, 6), np.uint8)),
        "cat/4.png has 8 x 6 pixels and ",
    ),
    "transparent": (transparent, "cat/4.png is no image that can be used: it is trans"),
    "16 bits": (lambda p: save(p, np.zeros((6, 8), np.uint16)), "its mode is I;16"),
    "moving": (moving, "cat/4.gif is no image that can be used: it is moving"),
    "other format": (
        lambda p: p.rename(p.with_suffix(".webp")),
        "cat/4.webp is not read: convert it to png",
    ),
    "an empty class": (lambda p: (p.parents[1] / "eel").mkdir(), "eel holds no image"),
    "alone": (
        lambda p: write(p.parents[1], {"eel": 1}),
        "eel/0.png is alone in its class",
    ),
    "too deep": (lambda p: (p.parent / "deep").mkdir(), "has the folder 'deep'"),
    "not in a class": (lambda p: p.rename(p.parents[1] / p.name), "4.png lies in it"),
    "nothing": (lambda p: shutil.rmtree(p.parents[1]), "pets is not there"),
    "one class": (lambda p: shutil.rmtree(p.parents[1] / "Dog"), "give two at least"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_used_is_named_in_one_line(case, pets):
    spoil, said = BAD[case]
    spoil(pets / "cat" / "4.png")
    with pytest.raises(data.DataError) as error:
        data.from_folder(pets)
    assert said in str(error.value) and "\n" not in str(error.value), error.value


def test_wrong_arguments_are_named(pets):
    for arguments, said in (
        ({"size": (32,)}, r"size = .32,.: give .height, width"),
        ({"size": (0, 32)}, "size = "),
        ({"size": (1.5, 32)}, "size = "),
        ({"test_share": 1.0}, "test_share = 1.0: give a number between 0 and 1"),
        ({"name": "digits"}, "'digits' is the name of a data set of ghostjax"),
    ):
        with pytest.raises(data.DataError, match=said):
            data.from_folder(pets, **arguments)


def test_a_folder_by_load(pets):
    dataset = data.load("mine", folder=str(pets), size=(4, 4))
    assert dataset.name == "mine" and dataset.train.images.shape[1:] == (4, 4, 1)
    assert dataset.fingerprint == data.from_folder(pets, size=(4, 4)).fingerprint
    with pytest.raises(data.DataError, match="is for images in a folder: digits has"):
        data.load("digits", size=(4, 4))
    with pytest.raises(data.DataError, match="'digits' is the name .*data.name"):
        data.load("digits", folder=pets)
