"""Flask with one route: the floor for start-up time and memory."""

from __future__ import annotations

from flask import Flask, jsonify

app = Flask(__name__)


@app.get("/health")
def health() -> object:
    return jsonify(status="healthy")
