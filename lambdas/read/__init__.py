"""GET: items, lists and the statuses of commands, read from the replicas."""
