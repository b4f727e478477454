"""Bulk import: converts a file of items into commands, by the same rules as single writes."""
