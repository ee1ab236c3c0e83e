"""`python -m ghostjax` and the console script."""

import sys

__all__ = ["main"]


def main() -> int:
    """The command line, from its first import on."""
    try:
        from ghostjax import cli

        return cli.main()
    except KeyboardInterrupt:
        print("ghostjax: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
