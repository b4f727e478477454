"""Applies the winners of keys without patches: whole rows, written in groups."""
