"""Dead letters: events of archive objects that the consumer could not apply."""
