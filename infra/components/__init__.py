"""The components of the stacks; each takes plain values and grants no permissions to others."""
