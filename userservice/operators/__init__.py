"""Operators: commands about users and their log-ins, for those who run the service."""
