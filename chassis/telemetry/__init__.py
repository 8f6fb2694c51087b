"""Logs, spans and metrics of the service."""

from chassis.telemetry.otel_variables import settle

# Here, because some of OpenTelemetry's modules read their variables while they are imported.
settle()
