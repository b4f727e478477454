"""The stacks: what is wired to what, and who may do what."""
