"""Settings of the Django peers."""

from urllib.parse import urlsplit

from contract import DATABASE_URL

_url = urlsplit(DATABASE_URL)

ALLOWED_HOSTS = ["*"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": _url.hostname,
        "PORT": _url.port,
        "USER": _url.username,
        "NAME": _url.path.lstrip("/"),
        "CONN_MAX_AGE": 3600,
    }
}
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
ROOT_URLCONF = "django_plain.main"
USE_TZ = True
