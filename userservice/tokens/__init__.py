"""Tokens: granted for an e-mail address and a password, renewed, revoked."""
