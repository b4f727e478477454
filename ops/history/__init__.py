"""The history of one key: every command with its caller and status, and the row at any time."""
