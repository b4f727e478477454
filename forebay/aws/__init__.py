"""AWS: the delivery stream and the archive bucket."""
