"""Checks of an AWS account before a deployment: quotas, names, versions, prerequisites."""
