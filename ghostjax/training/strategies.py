"""The names of the ways to train several members. Imports no jax; see `members`."""

from typing import Literal, get_args

__all__ = ["STRATEGIES", "Strategy"]

Strategy = Literal["vmap", "map", "one_by_one"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
