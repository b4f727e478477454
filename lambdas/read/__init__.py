"""GET: items, lists and the fate of commands, read from the replicas."""
