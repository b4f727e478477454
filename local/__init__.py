"""The one-machine stack: every server that AWS would run, on this computer."""
