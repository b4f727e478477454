"""The parts of which the stacks are made; each takes plain values and grants nothing to others."""
