"""Load: open-loop requests on the functions over loopback, and what they cost the primary."""
