"""Verify: compare the tables with the state that the archive requires."""
