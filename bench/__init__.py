"""Benchmarks: each figure with its limit or peer, measured in the same run. See README.md."""
