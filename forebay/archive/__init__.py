"""The archive: the names and contents of its objects, and how they are read."""
