"""The clients' address on the one-machine stack: what the deployed API Gateway stage would do.

The emulator runs the API, the authorizers and the functions; this server stands in front of it and
adds what the emulator lacks: the stage cache, the gateway responses for failed integrations, the
limits, and the edge's rules. All it knows about the API it reads from the deployed API itself.
"""
