"""The Django peer with the telemetry that a team ships, each part as its documentation says."""

import os

from opentelemetry.instrumentation.django import DjangoInstrumentor
from opentelemetry.instrumentation.psycopg2 import Psycopg2Instrumentor
from spans import export_spans

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
export_spans()
DjangoInstrumentor().instrument()
Psycopg2Instrumentor().instrument()

from django_plain.main import application

__all__ = ["application"]
