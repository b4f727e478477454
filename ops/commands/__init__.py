"""One module per group of commands: parse the options, call one function that lives elsewhere."""
