"""The configs that come with ghostjax, by name: `digits` is configs/digits.toml.

A wheel holds them as `ghostjax/configs`; a checkout has them beside the package.
"""

from pathlib import Path

from ghostjax.names import unknown

__all__ = ["folder", "locate", "names"]

_PLACES = ("configs", "../configs")  # seen from the package


def folder() -> Path:
    """Where the configs lie.

    Raises:
      ValueError: they did not come with this installation.
    """
    home = Path(__file__).parents[1]
    for place in _PLACES:
        here = (home / place).resolve()
        if (here / "digits.toml").is_file():
            return here
    raise ValueError(f"no configs come with ghostjax in {home}: install it again")


def names() -> list[str]:
    """What `locate` knows, in order."""
    return sorted(path.stem for path in folder().glob("*.toml"))


def locate(config: str | Path) -> Path:
    """The file of a config.

    Args:
      config: a path, or the name of one that comes with ghostjax. A file of that very
        path comes first.

    Raises:
      ValueError: no such file and no such name (the nearest and the list are given).
    """
    path = Path(config)
    if path.exists() or path.suffix or path.name != str(config):
        return path
    if str(config) not in names():
        raise ValueError(unknown("config", config, names()))
    return folder() / f"{config}.toml"
