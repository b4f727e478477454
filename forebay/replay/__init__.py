"""Replay: which archived commands are applied again, and how far a run of that has come."""
