"""Benchmarks: each figure beside its limit or its peer, measured in the same run. See README.md."""
