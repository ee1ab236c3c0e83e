"""What an experiment is: its sections, read from TOML, laid over each other, built; and
`grid`, many of them from one file. Imports no jax."""

from ghostjax.config.sections import Config
from ghostjax.config.toml import (
    build,
    load,
    merge,
    nested,
    overlay,
    read,
    records,
    to_toml,
)

__all__ = [
    "Config",
    "build",
    "load",
    "merge",
    "nested",
    "overlay",
    "read",
    "records",
    "to_toml",
]
