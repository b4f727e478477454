"""The operators' access to an archive: listing by command time, reading, and checks."""
