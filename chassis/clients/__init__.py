"""Calls to other services, and what happens when they fail."""
