"""POST, PUT, PATCH and DELETE: validates items, stores their commands, answers 202 or 207."""
