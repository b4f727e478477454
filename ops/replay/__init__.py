"""Replay: applies archived commands again, over live traffic, at a bounded pace."""
