"""Users: who they are, and their life from registration to purge."""
