"""The developers' commands: checks and files of a checkout, without a running server."""
