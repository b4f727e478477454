"""The operators' tools: the command line `forebay`, and what its commands are made of."""
