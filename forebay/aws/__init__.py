"""AWS: delivery streams, the archive bucket, and queues."""
