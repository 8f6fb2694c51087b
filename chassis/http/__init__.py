"""What touches a request or its answer; the only room that knows Flask and gunicorn."""
