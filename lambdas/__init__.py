"""The Lambda functions: thin entry points that never import each other."""
