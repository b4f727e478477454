"""The read cache: Valkey between the read function and the replicas; exact, not only short-lived.

docs/read-cache.md describes the protocol, and ADR 29 the reasons.
"""
