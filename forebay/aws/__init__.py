"""AWS: delivery streams, the archive bucket, queues and metrics."""
