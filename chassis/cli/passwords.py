"""Passwords that are given to a command."""

from __future__ import annotations

import warnings
from getpass import GetPassWarning

import click
from click.core import ParameterSource

from chassis.cli.streams import standard_input


def read_password(given: str | None) -> str:
    """Return the first line of standard input.

    Args:
        given: The password by the option of this name, or by its variable, which may be set for
            other commands.

    Raises:
        click.UsageError: there is the option as well.
    """
    source = click.get_current_context().get_parameter_source("password")
    if given is not None and source is ParameterSource.COMMANDLINE:
        raise click.UsageError("Give the password once: by --password or by --password-stdin")
    return standard_input().readline().rstrip("\r\n")


def ask_for_password(instead: str) -> str:
    """Prompt for a password twice, without showing it.

    Args:
        instead: Advice where there is no terminal.

    Raises:
        click.UsageError: there is no terminal to ask at.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", GetPassWarning)  # else it would read, and show, any input
        try:
            answer: str = click.prompt(
                "Password", hide_input=True, confirmation_prompt=True, err=True
            )
        except GetPassWarning as error:
            raise click.UsageError(f"There is no terminal to ask at: {instead}") from error
    return answer
