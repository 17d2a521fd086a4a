"""Loops that Numba compiles and torch's own threads run."""
