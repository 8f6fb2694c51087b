"""The FastAPI peer with the telemetry that a team ships, each part as its documentation says."""

from fastapi_sqlalchemy.main import app, engine
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from prometheus_fastapi_instrumentator import Instrumentator
from spans import export_spans

export_spans()
# It knows versions below 2.1 only, and does for this one what it did for those.
SQLAlchemyInstrumentor().instrument(engine=engine.sync_engine, skip_dep_check=True)
Instrumentator().instrument(app).expose(app)
FastAPIInstrumentor.instrument_app(app)
