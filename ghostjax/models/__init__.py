"""Networks as chains of layers: their parts, the networks of the papers, the reader."""
