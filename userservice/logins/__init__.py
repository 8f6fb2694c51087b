"""Log-ins as they are stored: each is a family of refresh tokens."""
