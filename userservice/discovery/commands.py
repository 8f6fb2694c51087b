"""Commands about the keys that sign access tokens."""

from __future__ import annotations

import json
from pathlib import Path

import click

from chassis.cli.group import require_command
from chassis.cli.options import as_json, examples, with_settings
from chassis.cli.output import written_secretly
from chassis.settings.signing_keys import ALGORITHMS, ES256, generate_key, load_key
from chassis.settings.token_keys import HS256, TokenKeySettings

SECRET = "JWT_SECRET"  # noqa: S105 - the name of a variable


@click.group("keys", invoke_without_command=True)
@click.pass_context
def keys_group(ctx: click.Context) -> None:
    """Make and show keys that sign access tokens."""
    require_command(ctx)


@keys_group.command(
    epilog=examples("keys generate key.pem", "keys generate --algorithm RS256 key.pem")
)
@click.argument("file", type=click.Path(allow_dash=True, path_type=Path))
@click.option(
    "--algorithm",
    type=click.Choice(ALGORITHMS),
    default=ES256,
    show_default=True,
    help="RS256 for verifiers that know nothing else.",
)
@as_json
def generate(*, file: Path, algorithm: str, is_json: bool) -> None:
    """Write a new private key to FILE, which its owner alone may read.

    - is standard output, unless that is a terminal. A file that is there already stays as it is.
    """
    if file.is_file():
        raise click.ClickException(f"{file} is there already, and may be a key in use")
    pem = generate_key(algorithm)
    with written_secretly(file, holding="a private key") as target:
        target.write(pem.encode())
    made = {"kid": load_key(pem).key_id, "alg": algorithm}
    # Standard output holds the key, and nothing else.
    click.echo(json.dumps(made) if is_json else _line("made", **made), err=str(file) == "-")


@keys_group.command(epilog=examples("keys show", "keys show --json"))
@as_json
@with_settings
def show(settings: TokenKeySettings, *, is_json: bool) -> None:
    """Show the public keys of this configuration, and which one signs; no private key."""
    keys = {name: load_key(pem) for name, pem in settings.signing_keys.items()}
    signing = "TOKEN_SIGNING_KEY" if settings.token_signing_key else SECRET
    if is_json:
        published = {each.key_id: each.jwk for each in keys.values()}
        signs = keys[signing].key_id if signing in keys else HS256
        further = {"signs": signs, "secret_holds": settings.does_secret_hold}
        click.echo(json.dumps({"keys": [*published.values()], **further}))
        return
    lines = {name: {"kid": each.key_id, "alg": each.algorithm} for name, each in keys.items()}
    if settings.does_secret_hold:
        lines[SECRET] = {"kid": "-", "alg": HS256}
    for name, line in lines.items():
        click.echo(f"{_line('signs' if name == signing else 'holds', **line)}  {name}")


def _line(state: str, *, kid: str, alg: str) -> str:
    return f"{state}  {alg}  {kid}"


COMMANDS = (keys_group,)
