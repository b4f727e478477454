"""Rebuild: fills an empty database from the archive, up to now or to a point in time."""
