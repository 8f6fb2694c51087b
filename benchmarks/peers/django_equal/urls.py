"""The paths of the Django peer, and /metrics."""

from django.urls import include, path
from django_plain.main import urlpatterns as plain_patterns

urlpatterns = [*plain_patterns, path("", include("django_prometheus.urls"))]
