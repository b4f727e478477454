"""What would fail in an account before a deployment: quotas, names, versions, prerequisites."""
