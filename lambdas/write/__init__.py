"""POST, PUT and DELETE: validates, gets commands accepted, answers 202."""
