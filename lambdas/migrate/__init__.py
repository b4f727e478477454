"""Migrates the database's schema before the functions that need it are deployed."""
