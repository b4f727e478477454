"""The shared core of Forebay: every function, tool and test builds on it."""
