"""Every blueprint; a new resource is listed here."""

from __future__ import annotations

from userservice import health, openapi
from userservice.users import routes as users

BLUEPRINTS = (users.blueprint, health.blueprint, openapi.blueprint)
