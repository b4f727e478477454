"""Postgres: connections, the tables, and what its errors mean."""
