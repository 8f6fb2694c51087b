"""Discovery: documents by which other services learn to verify access tokens."""
