"""The sections of `benchmarks/accelerator.py`, one file each, and what they share.

A section is a generator of cases, a case a function that gives rows (`report.Row`).
Nothing here imports more than jax, flax, optax, orbax, numpy and ghostjax's algorithms:
an accelerator machine may have nothing else. PyTorch is imported where it is there.
"""
