"""The sweep by hand: why objects are not applied, and waiting until they are."""
