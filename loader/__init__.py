"""Load real countries and cities through the API, and measure when they become readable."""
