"""Users, from registration to purge."""
