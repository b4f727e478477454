"""Verify: proves that the tables are what the archive says they must be."""
