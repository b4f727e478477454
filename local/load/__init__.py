"""Loads the real countries and cities through the API and measures when they can be read."""
