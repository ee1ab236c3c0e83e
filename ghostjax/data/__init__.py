"""Data sets as uint8 arrays, and which of their labels are sensitive.

`load("mnist")` reads what tensorflow-datasets prepared, without TensorFlow;
`load("digits")` needs no data at all; `from_arrays` and `from_folder` make a data set
of one's own images. No module here imports jax.
"""

from ghostjax.data.arrays import from_arrays
from ghostjax.data.catalog import DATASETS, DataError, Info
from ghostjax.data.dataset import Dataset, Split, fingerprint
from ghostjax.data.folder import from_folder
from ghostjax.data.load import available, info, load, prepare
from ghostjax.data.partition import Partition, Roles, partition, roles

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
    "from_arrays",
    "from_folder",
    "info",
    "load",
    "partition",
    "prepare",
    "roles",
]
