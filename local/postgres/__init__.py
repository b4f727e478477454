"""Postgres 18 from a wheel: a primary and its streaming replica, for the stack and for tests."""
