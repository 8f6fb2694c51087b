"""The settings of the service's gunicorn.conf.py, for the peers that run on gunicorn."""

from pathlib import Path

from contract import PORT

bind = f"127.0.0.1:{PORT}"
worker_class = "gthread"
workers = 2
threads = 20
keepalive = 75
graceful_timeout = 20
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None
control_socket_disable = True
