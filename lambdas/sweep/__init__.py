"""Compares the archive with the ledger on a schedule, and enqueues the missed objects."""
