"""Rejected commands: look at them, mend them and send them again, or put them aside."""
