"""Counts what XLA compiles."""

from ghostjax.testing import compiled

__all__ = ["compiled"]
