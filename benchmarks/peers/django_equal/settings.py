"""The settings of the Django peer with django-prometheus, as its documentation says."""

from django_plain.settings import *  # noqa: F403 - as Django's projects split settings
from django_plain.settings import MIDDLEWARE as PLAIN_MIDDLEWARE

INSTALLED_APPS = ["django_prometheus"]
MIDDLEWARE = [
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    *PLAIN_MIDDLEWARE,
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]
ROOT_URLCONF = "urls"
