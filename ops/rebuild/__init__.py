"""Rebuild: makes the tables from the archive alone, up to now or to a point in time."""
