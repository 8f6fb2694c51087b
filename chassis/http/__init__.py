"""HTTP/1.1 for WSGI applications, as a worker of gunicorn."""
