"""The query grammar of lists: PostgREST's syntax, parsed into plain data."""
