"""Options, arguments and examples that commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

from chassis.cli.group import operator_of
from chassis.cli.streams import standard_input

PROGRAM = "python app.py admin"
SOME_ID = "0197f6a0-5b7c-7d3e-9a41-2f6c8b1d0e55"

FC = TypeVar("FC", bound=Callable[..., Any])

as_json = click.option("--json", "is_json", is_flag=True, help="For machines.")
as_sure = click.option("--yes", "is_sure", is_flag=True, help="Do not ask.")


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


def require_sure(question: str, *, is_sure: bool) -> None:
    """Ask before work that cannot be undone.

    Args:
        question: What is about to be done.
        is_sure: Whether the operator has said so already, by --yes.

    Raises:
        click.UsageError: there is no terminal to ask at.
        click.ClickException: the answer was no.
    """
    if is_sure:
        return
    if not standard_input().isatty():
        raise click.UsageError("There is no terminal to ask at: use --yes")
    if not click.confirm(question, err=True):
        raise click.ClickException("Nothing was done")


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the settings of the process, and open nothing."""

    @wraps(command)
    @click.pass_context
    def run(ctx: click.Context, /, **options: Any) -> None:
        ctx.invoke(command, operator_of(ctx).settings, **options)

    return run


def with_services(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the attached resources; the environment is read now, so --help needs none."""

    @wraps(command)
    @click.pass_context
    def run(ctx: click.Context, /, **options: Any) -> None:
        ctx.invoke(command, operator_of(ctx).services, **options)

    return run
