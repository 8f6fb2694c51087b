"""The shape of many tutorials: the development server, ORM sessions, every instrumentation."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from contract import (
    DATABASE_URL,
    EMAIL_LENGTH,
    NAME_LENGTH,
    POOL_OVERFLOW,
    POOL_SIZE,
    PORT,
    email_key,
    is_allowed,
    uuid7,
)
from email_validator import EmailNotValidError, validate_email
from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue
from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from sqlalchemy import DateTime, String, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
reader = PeriodicExportingMetricReader(OTLPMetricExporter())
metrics.set_meter_provider(MeterProvider(metric_readers=[reader]))
tracer = trace.get_tracer(__name__)

engine = create_engine(
    DATABASE_URL.replace("postgresql://", "postgresql+psycopg2://"),
    pool_size=POOL_SIZE,
    max_overflow=POOL_OVERFLOW,
    pool_pre_ping=True,
)
make_session = sessionmaker(engine)
app = Flask(__name__)
FlaskInstrumentor().instrument_app(app)
# It knows versions below 2.1 only, and does for this one what it did for those.
SQLAlchemyInstrumentor().instrument(engine=engine, skip_dep_check=True)


class Base(DeclarativeBase):
    type_annotation_map = {datetime: DateTime(timezone=True)}


class User(Base):
    __tablename__ = "users"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    email: Mapped[str] = mapped_column(String(EMAIL_LENGTH))
    email_key: Mapped[str]
    name: Mapped[str] = mapped_column(String(NAME_LENGTH))
    status: Mapped[str] = mapped_column(String(16), default="active")
    signup_source: Mapped[str] = mapped_column(String(64), default="unknown")
    tier: Mapped[str] = mapped_column(String(64), default="free")
    is_superuser: Mapped[bool] = mapped_column(default=False)
    password_hash: Mapped[str | None]
    version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": str(self.id),
            "email": self.email,
            "name": self.name,
            "created_at": self.created_at.isoformat(),
            "status": self.status,
        }


@app.get("/health")
def health() -> ResponseReturnValue:
    return jsonify(status="healthy", timestamp=datetime.now(UTC).isoformat())


@app.post("/users")
def create_user() -> ResponseReturnValue:
    with tracer.start_as_current_span("create_user") as span:
        data = request.get_json()
        email, name = str(data.get("email") or "").strip(), str(data.get("name") or "").strip()
        try:
            validate_email(email, check_deliverability=False)
        except EmailNotValidError:
            return jsonify(error="Email is not valid"), 400
        if not 0 < len(name) <= NAME_LENGTH:
            return jsonify(error="Name is required"), 400
        now = datetime.now(UTC)
        with make_session() as session:
            taken = select(User).where(User.email_key == email_key(email))
            if session.scalar(taken) is not None:
                return jsonify(error="User already exists"), 409
            user = User(
                email=email, email_key=email_key(email), name=name, created_at=now, updated_at=now
            )
            session.add(user)
            session.commit()
            session.refresh(user)
            span.set_attribute("user.id", str(user.id))
            return jsonify(user.to_dict()), 201, {"Location": f"/users/{user.id}"}


@app.get("/users/<uuid:user_id>")
def get_user(user_id: UUID) -> ResponseReturnValue:
    with tracer.start_as_current_span("get_user"):
        if not is_allowed(request.headers.get("X-API-Key")):
            return jsonify(error="Unauthorized"), 401
        with make_session() as session:
            user = session.get(User, user_id)
            if user is None or user.status == "deleted":
                return jsonify(error="User not found"), 404
            return jsonify(user.to_dict())


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=PORT)
