"""The gateway of the one-machine stack: it serves clients as the deployed API Gateway stage would.

The emulator runs the API, the authorizers and the functions. This server is a proxy in front of the
emulator and adds the features that it lacks: the stage cache, the gateway responses for failed
integrations, the limits, and the edge's rules. It reads the API's configuration from the deployed
API only.
"""
