"""Tokens: an e-mail address and a password for access, renewed and revoked."""
