"""The stacks: connections between the components, and their permissions."""
