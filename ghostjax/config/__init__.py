"""What an experiment is: its sections, read from TOML, laid over each other, built; and
`grid`, many of them from one file. Imports no jax."""

from ghostjax.config.named import locate
from ghostjax.config.sections import Config
from ghostjax.config.toml import (
    build,
    load,
    merge,
    nested,
    overlay,
    read,
    record,
    records,
    to_toml,
)

__all__ = [
    "Config",
    "build",
    "load",
    "locate",
    "merge",
    "nested",
    "overlay",
    "read",
    "record",
    "records",
    "to_toml",
]
