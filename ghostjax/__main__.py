"""`python -m ghostjax` is the console script."""

import sys

from ghostjax.cli import main

sys.exit(main())
