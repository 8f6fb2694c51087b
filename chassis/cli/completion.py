"""Completion of commands and options in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from chassis.cli.options import examples

VARIABLE = "_ADMIN_COMPLETE"  # by which a shell asks for the words that may come next


@click.command(epilog=examples("completion bash", "completion zsh --program operate"))
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.option(
    "--program",
    default="admin",
    show_default=True,
    help="Name of your script that runs python app.py admin with its arguments.",
)
def completion(shell: str, program: str) -> None:
    """Print a script for completion in SHELL."""
    root = click.get_current_context().find_root().command
    made = get_completion_class(shell)
    if made is None:  # a choice that this version of click no longer has
        raise click.ClickException(f"No completion for {shell}")
    click.echo(made(root, {}, program, VARIABLE).source())
