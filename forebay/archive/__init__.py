"""The archive's layout: what its objects are called, and what they hold."""
