"""Brings the database's schema up to date, before the functions that need it are deployed."""
