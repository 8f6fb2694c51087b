"""API keys: each has a name, scopes, and an end."""
