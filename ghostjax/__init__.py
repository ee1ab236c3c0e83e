"""ghostjax: private split inference in JAX.

A network is cut into an edge half and a cloud half; what crosses the cut is
protected by GHOST (or left plain) and attacked by the cloud. See README.md for the
story of one run and `ghostjax --help` for the commands. Importing this package
imports no jax; its modules do.
"""

__version__ = "0.1.0"
