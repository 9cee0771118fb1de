"""Benchmarks, run manually: `make bench` and the scripts in this package."""
