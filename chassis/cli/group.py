"""The group of all commands: an expected failure is one line and exit status 1."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

import click

from chassis.backing_services import BackingServices
from chassis.errors import AppError, Unavailable
from chassis.storage.failures import PERMISSION_DENIED, sqlstate

logger = logging.getLogger(__name__)


class Operator(Protocol):
    """Holds the attached resources that commands work with."""

    @property
    def services(self) -> BackingServices:
        """The attached resources, opened on first use."""


class AdminGroup(click.Group):
    """Reports expected failures as one line and exit status 1.

    Args:
        open_operator: Called by the first command that runs; --help needs no environment.
    """

    def __init__(
        self,
        *arguments: Any,
        open_operator: Callable[[click.Context], Operator],
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self.open_operator = open_operator

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except AppError as error:
            raise click.ClickException(_sentence(error)) from error
        except BrokenPipeError:
            raise  # click handles it: the reader of the output has closed its pipe
        except OSError as error:
            raise click.ClickException(str(error)) from error
        except (click.ClickException, click.Abort, click.exceptions.Exit, EOFError):
            raise
        except Exception as error:
            if sqlstate(error) == PERMISSION_DENIED:
                raise click.ClickException(_driver_says(error)) from error
            logger.exception("Command failed", extra={"error_type": type(error).__name__})
            raise click.ClickException(f"{AppError.title}; the log says more") from error


def operator_of(ctx: click.Context) -> Any:
    """Return the operator of a command, opened on the first call."""
    root = ctx.find_root().command
    return ctx.obj or (root.open_operator(ctx) if isinstance(root, AdminGroup) else None)


def require_command(ctx: click.Context) -> None:
    """Show a group's usage and exit with status 2, unless one of its commands is named."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)


def _sentence(error: AppError) -> str:
    """Return the error's text and, where a driver caused it, the driver's text."""
    reason = _driver_says(error.__cause__)
    return (
        f"{error.detail}: {reason}" if isinstance(error, Unavailable) and reason else error.detail
    )


def _driver_says(error: BaseException | None) -> str:
    return str(getattr(error, "orig", None) or "").partition("\n")[0]
