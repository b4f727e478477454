"""One module per group of commands: it parses options and calls functions of other packages."""
