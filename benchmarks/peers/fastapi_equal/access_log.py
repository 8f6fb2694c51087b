"""uvicorn's access lines as JSON, a field for each part of a line."""

from pythonjsonlogger.json import JsonFormatter


class AccessFormatter(JsonFormatter):
    def add_fields(self, log_data, record, message_dict):
        super().add_fields(log_data, record, message_dict)
        client, method, path, _version, status = record.args
        log_data.update(client=client, method=method, path=path, status=status)
