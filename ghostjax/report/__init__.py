"""Finished runs as words, tables, charts and pages. Imports no jax."""
