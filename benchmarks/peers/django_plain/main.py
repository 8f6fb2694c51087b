"""A Django view without a framework on top, on connections that are kept."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import django
from contract import (
    EMAIL_LENGTH,
    EQUAL_WORK,
    NAME_LENGTH,
    email_key,
    is_allowed,
    message_about,
    uuid7,
)
from email_validator import EmailNotValidError, validate_email

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "django_plain.settings")
django.setup()

from django.core.wsgi import get_wsgi_application
from django.db import IntegrityError, models, transaction
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.http import require_GET, require_POST


class User(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7)
    email = models.CharField(max_length=EMAIL_LENGTH)
    email_key = models.TextField()
    name = models.CharField(max_length=NAME_LENGTH)
    status = models.CharField(max_length=16, default="active")
    signup_source = models.CharField(max_length=64, default="unknown")
    tier = models.CharField(max_length=64, default="free")
    is_superuser = models.BooleanField(default=False)
    password_hash = models.TextField(null=True)
    version = models.IntegerField(default=1)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        app_label = "users"
        db_table = "users"
        managed = False


class OutboxMessage(models.Model):
    id = models.UUIDField(primary_key=True)
    topic = models.CharField(max_length=64)
    payload = models.JSONField()
    trace = models.JSONField()
    status = models.CharField(max_length=16)
    attempts = models.IntegerField()
    due_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    last_error = models.TextField(null=True)

    class Meta:
        app_label = "users"
        db_table = "outbox_messages"
        managed = False


@require_GET
def health(_request: HttpRequest) -> JsonResponse:
    return JsonResponse({"status": "healthy", "timestamp": datetime.now(UTC)})


@require_POST
def create_user(request: HttpRequest) -> JsonResponse:
    try:
        email, name = _read(request.body)
    except ValueError as error:
        return JsonResponse({"error": str(error)}, status=400)
    try:
        user = _store(email, name)
    except IntegrityError:
        return JsonResponse({"error": "User already exists"}, status=409)
    return JsonResponse(_document(user), status=201, headers={"Location": f"/users/{user.id}"})


@require_GET
def get_user(request: HttpRequest, user_id: UUID) -> JsonResponse:
    if not is_allowed(request.headers.get("X-API-Key")):
        return JsonResponse({"error": "Unauthorized"}, status=401)
    try:
        user = User.objects.exclude(status="deleted").get(id=user_id)
    except User.DoesNotExist:
        return JsonResponse({"error": "User not found"}, status=404)
    return JsonResponse(_document(user))


def _store(email: str, name: str) -> User:
    now = datetime.now(UTC)
    user = User(email=email, email_key=email_key(email), name=name, created_at=now, updated_at=now)
    if not EQUAL_WORK:
        user.save(force_insert=True)
        return user
    with transaction.atomic():
        user.save(force_insert=True)
        OutboxMessage.objects.create(**message_about(user.id))
    return user


def _read(body: bytes) -> tuple[str, str]:
    data = json.loads(body)
    if not isinstance(data, dict):
        raise ValueError("The body must be an object")
    email, name = data.get("email"), data.get("name")
    if not isinstance(email, str) or not isinstance(name, str):
        raise ValueError("Email and name are required")
    email, name = email.strip(), name.strip()
    if not 0 < len(name) <= NAME_LENGTH:
        raise ValueError("The name is too short or too long")
    try:
        validate_email(email, check_deliverability=False)
    except EmailNotValidError:
        raise ValueError("The e-mail address is not valid") from None
    return email, name


def _document(user: User) -> dict[str, Any]:
    return {
        "id": user.id,
        "email": user.email,
        "name": user.name,
        "created_at": user.created_at,
        "status": user.status,
    }


urlpatterns = [
    path("health", health),
    path("users", create_user),
    path("users/<uuid:user_id>", get_user),
]
application = get_wsgi_application()
