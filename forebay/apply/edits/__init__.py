"""Applies all commands of keys with patches or decided commands: states, absorbed in order."""
