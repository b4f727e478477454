"""Postgres 18 from a wheel: a primary and its streaming replica, for one machine and for tests."""
