"""Folds a whole archive to one winner per key (law 2), with bounded memory, by way of the disk."""
