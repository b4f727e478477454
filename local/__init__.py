"""The one-machine stack: everything AWS would run, on this computer."""
