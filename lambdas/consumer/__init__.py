"""Receives archive objects from the queue and applies them to the primary."""
