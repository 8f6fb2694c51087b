"""FastAPI with SQLAlchemy's asyncio session, as their documentation shows it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from contract import (
    DATABASE_URL,
    EMAIL_LENGTH,
    EQUAL_WORK,
    NAME_LENGTH,
    POOL_OVERFLOW,
    POOL_SIZE,
    email_key,
    is_allowed,
    message_about,
    uuid7,
)
from fastapi import Depends, FastAPI, HTTPException, Response
from fastapi.security import APIKeyHeader
from pydantic import BaseModel, ConfigDict, EmailStr, StringConstraints
from sqlalchemy import JSON, DateTime, String
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

engine = create_async_engine(
    DATABASE_URL.replace("postgresql://", "postgresql+asyncpg://"),
    pool_size=POOL_SIZE,
    max_overflow=POOL_OVERFLOW,
)
make_session = async_sessionmaker(engine, expire_on_commit=False)
app = FastAPI()


class Base(DeclarativeBase):
    type_annotation_map = {datetime: DateTime(timezone=True), dict[str, Any]: JSON}


class User(Base):
    __tablename__ = "users"

    id: Mapped[UUID] = mapped_column(primary_key=True)
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


class OutboxMessage(Base):
    __tablename__ = "outbox_messages"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    topic: Mapped[str] = mapped_column(String(64))
    payload: Mapped[dict[str, Any]]
    trace: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int]
    due_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    last_error: Mapped[str | None]


class UserCreate(BaseModel):
    email: EmailStr
    name: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=NAME_LENGTH)
    ]


class UserRead(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    email: str
    name: str
    created_at: datetime
    status: str


async def session() -> AsyncIterator[AsyncSession]:
    async with make_session() as opened:
        yield opened


Session = Annotated[AsyncSession, Depends(session)]


async def api_key(
    given: Annotated[str | None, Depends(APIKeyHeader(name="X-API-Key", auto_error=False))],
) -> None:
    if not is_allowed(given):
        raise HTTPException(401)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "healthy", "timestamp": datetime.now(UTC).isoformat()}


@app.post("/users", status_code=201)
async def create_user(new: UserCreate, session: Session, response: Response) -> UserRead:
    now = datetime.now(UTC)
    user = User(
        id=uuid7(),
        email=new.email,
        email_key=email_key(new.email),
        name=new.name,
        created_at=now,
        updated_at=now,
    )
    session.add(user)
    if EQUAL_WORK:
        session.add(OutboxMessage(**message_about(user.id)))
    try:
        await session.commit()
    except IntegrityError as error:
        raise HTTPException(409, "User already exists") from error
    response.headers["Location"] = f"/users/{user.id}"
    return UserRead.model_validate(user)


@app.get("/users/{user_id}", dependencies=[Depends(api_key)])
async def get_user(user_id: UUID, session: Session) -> UserRead:
    user = await session.get(User, user_id)
    if user is None or user.status == "deleted":
        raise HTTPException(404, "User not found")
    return UserRead.model_validate(user)
