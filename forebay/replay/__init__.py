"""Replay: the selection of archived commands, and the progress of runs."""
