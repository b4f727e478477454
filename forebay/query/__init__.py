"""The query grammar of lists: PostgREST's spelling, parsed into plain data."""
