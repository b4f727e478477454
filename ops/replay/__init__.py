"""Replay: applies archived commands again during live traffic, at a bounded rate."""
