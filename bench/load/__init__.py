"""Load: open-loop requests to the functions over loopback, and their cost on the primary."""
