"""Data sets as uint8 arrays, and which of their labels are sensitive.

`load("mnist")` reads what tensorflow-datasets prepared, without TensorFlow;
`load("digits")` needs no data at all. No module here imports jax.
"""

from ghostjax.data.catalog import DATASETS, DataError, Info, info
from ghostjax.data.load import available, fingerprint, load, prepare
from ghostjax.data.partition import Partition, Roles, partition, roles
from ghostjax.data.prepared import Dataset, Split

__all__ = [
    "DATASETS",
    "DataError",
    "Dataset",
    "Info",
    "Partition",
    "Roles",
    "Split",
    "available",
    "fingerprint",
    "info",
    "load",
    "partition",
    "prepare",
    "roles",
]
