"""Addresses of users: verified, changed with the password, confirmed from the new mailbox."""
