"""Passwords: changed, forgotten, and set by the link of an e-mail."""
