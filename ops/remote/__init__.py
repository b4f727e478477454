"""Run a command in the network of an environment on AWS, and follow its output."""
