"""Logs, spans and metrics of the service."""
