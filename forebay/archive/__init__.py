"""The archive's layout: the names and contents of its objects."""
