"""Standing: suspension, the rights of superusers, roles, and an account at a glance."""
