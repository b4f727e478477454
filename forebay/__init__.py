"""The shared core of Forebay: what every function, tool and test builds on."""
