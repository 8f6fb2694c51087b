"""Requests and their answers; the only room that knows Flask and gunicorn."""
