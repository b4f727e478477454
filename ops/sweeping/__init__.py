"""The sweep as a command: why objects are not applied, and waiting until they are."""
