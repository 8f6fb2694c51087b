"""Options and arguments that commands share."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from chassis.cli.group import operator_of

as_json = click.option("--json", "is_json", is_flag=True, help="For machines.")


def with_services(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the attached resources; the environment is read now, so --help needs none."""

    @wraps(command)
    @click.pass_context
    def run(ctx: click.Context, /, **options: Any) -> None:
        ctx.invoke(command, operator_of(ctx).services, **options)

    return run
