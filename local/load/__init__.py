"""Loads real countries and cities through the API, and measures when they become readable."""
