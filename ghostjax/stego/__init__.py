"""Hiding one picture in another. `STEGO` maps a method's name to its factory."""

from ghostjax.stego import lsb, pairs

# The modules keep their names (`stego.lsb.hide_bits`); the factory is `stego.lsb.lsb`.
STEGO = {"lsb": lsb.lsb}
draw_pairs = pairs.draw
least_overlap = pairs.least_overlap

__all__ = ["STEGO", "draw_pairs", "least_overlap", "lsb", "pairs"]
