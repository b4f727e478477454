"""Bulk import: a file of many items becomes commands, by the same rules as single writes."""
