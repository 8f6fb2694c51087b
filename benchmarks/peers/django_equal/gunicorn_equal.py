"""The gunicorn settings of all peers, and an access line as JSON for each request."""

from gunicorn_settings import *  # noqa: F403 - gunicorn reads its settings from names

FIELDS = "%(asctime)s %(levelname)s %(name)s %(message)s"

accesslog = "-"
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "access": {"()": "access_log.AccessFormatter", "format": FIELDS},
        "default": {"()": "pythonjsonlogger.json.JsonFormatter", "format": FIELDS},
    },
    "handlers": {
        "access": {"class": "logging.StreamHandler", "formatter": "access"},
        "default": {"class": "logging.StreamHandler", "formatter": "default"},
    },
    "loggers": {
        "gunicorn.access": {"handlers": ["access"], "level": "INFO", "propagate": False},
        "gunicorn.error": {"handlers": ["default"], "level": "INFO", "propagate": False},
    },
    "root": {"handlers": ["default"], "level": "INFO"},
}
