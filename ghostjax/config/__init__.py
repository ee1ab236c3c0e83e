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
from ghostjax.config.words import override, override_all

__all__ = [
    "Config",
    "build",
    "load",
    "locate",
    "merge",
    "nested",
    "overlay",
    "override",
    "override_all",
    "read",
    "record",
    "records",
    "to_toml",
]
