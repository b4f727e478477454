"""Test a deployed API from outside, as a client."""
