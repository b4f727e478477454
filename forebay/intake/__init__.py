"""Intake: turns what clients send into commands and gets them accepted."""
