"""Fold a whole archive to one winner per key (law 2), with bounded memory, using the disk."""
