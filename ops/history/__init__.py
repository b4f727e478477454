"""The history of one key: every command, by whom, with what outcome; the row as it was."""
