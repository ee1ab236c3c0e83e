"""Networks and data sets of one's own, by name, beside ghostjax's."""

import subprocess
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from ghostjax import config, data, registry
from ghostjax.data.catalog import DATASETS
from ghostjax.models import zoo
from ghostjax.models.chain import describe
from ghostjax.models.layers import Conv, Dense, MaxPool, Relu


def tiny(classes=10):
    return (
        ("conv1", Conv(4, 3)),
        ("ReLU1", Relu()),
        ("pool1", MaxPool()),
        ("fc1", Dense(classes)),
    )


TINY = zoo.Network(build=tiny, image_shape=(28, 28, 1), classes=10)
STRIPES = data.Info(
    shape=(4, 6, 1),
    class_names=("across", "down"),
    load="test_registry:load_stripes",
)


def load_stripes(name):
    """Two training images and a test image."""
    across = np.zeros((4, 6, 1), np.uint8)
    across[::2] = 200
    down = np.zeros((4, 6, 1), np.uint8)
    down[:, ::2] = 200
    return data.Dataset(
        name=name,
        train=data.Split(np.stack([across, down]), np.array([0, 1], np.int32)),
        test=data.Split(down[None], np.array([1], np.int32)),
        class_names=("across", "down"),
        source="striped",
    )


@pytest.fixture
def tables(monkeypatch):
    """Tables that this test may add to, and no other sees."""
    for name in ("NETWORKS", "DATASETS"):
        table = getattr(registry, name)
        monkeypatch.setattr(table, "_rows", dict(table._known()))


def test_ghostjaxs_own_are_the_built_in_rows():
    assert dict(registry.NETWORKS) == zoo.NETWORKS
    assert dict(registry.DATASETS) == DATASETS


def test_a_registered_network_is_chosen_by_a_config(tables):
    registry.NETWORKS.add("tiny", TINY)
    chosen = config.build({"target": {"network": "tiny"}})
    network = zoo.network(chosen.target.network)
    assert [layer.name for layer in describe(network.build(10), (28, 28, 1))] == [
        "conv1", "ReLU1", "pool1", "fc1",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="'tinny': did you mean 'tiny'"):
        zoo.network("tinny")


def test_a_name_stands_for_one_thing(tables):
    registry.NETWORKS.add("tiny", TINY)
    registry.NETWORKS.add("tiny", TINY)
    with pytest.raises(ValueError, match="a network 'tiny' already"):
        registry.NETWORKS.add("tiny", TINY._replace(classes=5))
    with pytest.raises(ValueError, match="a data set 'mnist' already"):
        registry.DATASETS.add("mnist", STRIPES)


def test_a_registered_data_set_loads_by_name(tables, tmp_path):
    registry.DATASETS.add("stripes", STRIPES)
    dataset = data.load("stripes")
    assert (dataset.name, dataset.source) == ("stripes", "striped")
    assert dataset.train.images.shape == (2, 4, 6, 1)
    statuses = {entry.name: entry.status for entry in data.available(tmp_path)}
    assert statuses["stripes"] == "embedded"
    with pytest.raises(data.DataError, match="'stripe': did you mean 'stripes'"):
        data.load("stripe")
    with pytest.raises(data.DataError, match="nothing to prepare"):
        data.prepare("stripes")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.zeros((1, 4, 6, 1), np.float32)}, "images float32"),
        (
            {"images": np.zeros((1, 6, 4, 1), np.uint8)},
            r"wanted are uint8 \[N, 4, 6, 1",
        ),
        ({"labels": np.array([1], np.int64)}, "labels int64"),
        ({"labels": np.array([2], np.int32)}, "label 2 of 2 classes"),
    ],
)
def test_what_a_loader_gives_is_checked(tables, changes, message):
    def load(name):
        dataset = load_stripes(name)
        return replace(dataset, test=dataset.test._replace(**changes))

    registry.DATASETS.add("stripes", STRIPES._replace(load=load))
    with pytest.raises(data.DataError, match=f"data set 'stripes': .*{message}"):
        data.load("stripes")


def test_a_loader_gives_what_the_table_says(tables):
    for name, changes, said in (
        ("turned", {"shape": (6, 4, 1)}, "the loader of turned gives .*, 6, 4"),
        ("three", {"class_names": tuple("abc")}, "three gives 2 class names, not 3"),
    ):
        registry.DATASETS.add(name, STRIPES._replace(**changes))
        with pytest.raises(data.DataError, match=said):
            data.load(name)


def test_a_data_set_that_tfds_prepared_needs_no_loader(tables, tmp_path):
    registry.DATASETS.add("stripes", STRIPES._replace(load=""))
    with pytest.raises(
        data.DataError, match="stripes is not prepared: no stripes/1.0.0"
    ):
        data.load("stripes", data_dir=tmp_path)
    with pytest.raises(
        data.DataError, match="ghostjax cannot prepare stripes: put what"
    ):
        data.prepare("stripes", data_dir=tmp_path)


def test_a_package_names_its_own_by_entry_points(monkeypatch):
    entry = EntryPoint("tiny", "test_registry:TINY", "ghostjax.networks")
    table = registry.Table(
        "network", "ghostjax.networks", "ghostjax.models.zoo:NETWORKS"
    )
    wanted = {"ghostjax.networks": [entry]}
    monkeypatch.setattr(registry, "entry_points", lambda group: wanted[group])
    assert table["tiny"].build is tiny
    assert list(table) == [*zoo.NETWORKS, "tiny"]


def test_the_registry_imports_no_jax():
    code = (
        "import sys; from ghostjax import registry; list(registry.DATASETS);"
        "sys.exit('jax' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
