"""POST, PUT and DELETE: validates items, stores their commands, answers 202."""
