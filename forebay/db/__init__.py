"""Postgres: connections, the tables, and the meaning of its errors."""
