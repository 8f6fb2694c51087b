"""gunicorn's access lines as JSON, a field for each part of a line."""

from pythonjsonlogger.json import JsonFormatter


class AccessFormatter(JsonFormatter):
    def add_fields(self, log_data, record, message_dict):
        super().add_fields(log_data, record, message_dict)
        atoms = record.args
        log_data.update(
            client=atoms["h"],
            method=atoms["m"],
            path=atoms["U"],
            status=atoms["s"],
            duration_us=atoms["D"],
        )
