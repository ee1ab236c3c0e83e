"""Experiments that compile in seconds: the network and data of `tests/package`."""

import os
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest

from ghostjax import registry
from ghostjax.evaluation import answers
from ghostjax.report import panels

PACKAGE = Path(__file__).parents[1] / "package"
TARGET = """
[data]
name = "patterns"
[target]
network = "small"
epochs = 3
batch_size = 40
"""
CONFIG = f"""
name = "sample"
{TARGET}
[defense]
name = "ghost"
cut = "pool1"
steps = 30
batch_size = 32
public_batch_size = 32
[attacker]
images = 6
[attack]
name = "rmle"
preset = "authors"
steps = 10
[judge]
used = false
"""


def module(name):
    """One of the package's, which an installed package would have on the path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(PACKAGE))
        return import_module(f"ghostjax_sample.{name}")


@contextmanager
def registered():
    """Inside, this process knows the network and the data set by name, and asks about
    the test images in one batch that holds no others."""
    rows = {"NETWORKS": {"small": module("network").SMALL}}
    rows["DATASETS"] = {"patterns": module("pictures").INFO}
    with pytest.MonkeyPatch.context() as patch:
        for name, added in rows.items():
            table = getattr(registry, name)
            patch.setattr(table, "_rows", {**dict(table), **added})
        patch.setattr(answers, "BATCH", 100)
        yield


@contextmanager
def without_curves():
    """Inside, pages have no curves of trainings, which take longer than the runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(panels, "training", lambda records: None)
        yield


def environment():
    """For another process, which knows them by the package's entry points."""
    path = os.pathsep.join([str(PACKAGE), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
