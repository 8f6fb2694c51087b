"""Options, arguments and examples that commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

from chassis.cli.group import operator_of

PROGRAM = "python app.py admin"
SOME_ID = "0197f6a0-5b7c-7d3e-9a41-2f6c8b1d0e55"

FC = TypeVar("FC", bound=Callable[..., Any])

as_json = click.option("--json", "is_json", is_flag=True, help="For machines.")


def examples(*commands: str) -> str:
    """Return the end of a command's help: ways to call it, as they are typed."""
    lines = (f"  {PROGRAM} {each}" for each in commands)
    return "\n".join(["\b", "Examples:", *lines])


def version_option(name: str) -> Callable[[FC], FC]:
    """Declare --version, which looks at one variable: the others may be wrong."""

    def show(ctx: click.Context, _option: click.Parameter, is_asked: bool) -> None:  # noqa: FBT001 - click's call
        if is_asked:
            click.echo(f"{name} {os.environ.get('APP_VERSION') or 'unknown'}")
            ctx.exit()

    return click.option(
        "--version",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        help="Print the version that runs.",
    )


def with_services(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the attached resources; the environment is read now, so --help needs none."""

    @wraps(command)
    @click.pass_context
    def run(ctx: click.Context, /, **options: Any) -> None:
        ctx.invoke(command, operator_of(ctx).services, **options)

    return run
