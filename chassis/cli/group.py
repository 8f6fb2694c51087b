"""The group of all commands: an expected failure is one line and exit status 1."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

import click

from chassis.actor import OPERATOR, acting
from chassis.backing_services import BackingServices
from chassis.cli.streams import require_output
from chassis.errors import AppError
from chassis.process.interrupts import INTERRUPTED
from chassis.storage.failures import in_one_line

logger = logging.getLogger(__name__)

HELP = {"help_option_names": ["-h", "--help"]}


class Operator(Protocol):
    """Holds the settings and the attached resources that commands work with."""

    @property
    def settings(self) -> Any:
        """The settings of the process, which a command takes for those that it knows."""

    @property
    def services(self) -> BackingServices:
        """The attached resources, opened on first use."""


class Interrupted(click.ClickException):
    """Ctrl-C was pressed."""

    exit_code = INTERRUPTED

    def __init__(self) -> None:
        super().__init__("Interrupted")


class AdminGroup(click.Group):
    """Reports expected failures as one line and exit status 1; Ctrl-C is 130.

    Args:
        open_operator: Called by the first command that runs; --help needs no environment.
    """

    def __init__(
        self,
        *arguments: Any,
        open_operator: Callable[[click.Context], Operator],
        **options: Any,
    ) -> None:
        super().__init__(*arguments, context_settings=HELP, **options)
        self.open_operator = open_operator

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; the audit trail names an operator for its deeds."""
        require_output()
        try:
            with acting(OPERATOR):
                return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise  # click handles them; a broken pipe: the output's reader has gone
        except KeyboardInterrupt:
            raise Interrupted from None
        except Exception as error:
            raise _failure(error) from error


def _failure(error: Exception) -> click.ClickException:
    """Return the line for an error; log the error if nobody expected it."""
    match error:
        case AppError():
            return click.ClickException(in_one_line(error))
        case OSError():
            named = f"{error.filename}: " if error.filename else ""
            return click.ClickException(f"{named}{error.strerror or error}")
        # click makes this of Ctrl-C at a prompt, and of the end of the input.
        case click.Abort(__context__=KeyboardInterrupt()):
            return Interrupted()
        case click.Abort() | EOFError():
            return click.ClickException("Standard input ended before the answer")
    logger.error("Command failed", extra={"error_type": type(error).__name__}, exc_info=error)
    return click.ClickException(f"{AppError.title}; the log says more")


def operator_of(ctx: click.Context) -> Any:
    """Return the operator of a command, opened on the first call."""
    root = ctx.find_root().command
    return ctx.obj or (root.open_operator(ctx) if isinstance(root, AdminGroup) else None)


def require_command(ctx: click.Context) -> None:
    """Show a group's usage and exit with status 2, unless one of its commands is named."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)
