"""The archive as operators see it: listed by command time, read as streams."""
