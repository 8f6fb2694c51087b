"""Commands of this service, of make and of docker in documents, against what runs them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import click
import yaml

from admin import cli
from tests.support.manifests import OUR_IMAGE
from tests.support.processes import ROOT

# A name that stands for a value: FILE, USER, ID.
PLACEHOLDER = re.compile(r"[A-Z_]+|-|\$\w+\S*|\.\.\.")
COMPOSE = {
    "up": {"--build", "--wait", "--detach", "-d"},
    "down": {"--volumes", "-v"},
    "logs": {"--follow", "-f"},
    "ps": set[str](),
    "exec": set[str](),
    "config": {"--quiet"},
}


def admin_faults(words: tuple[str, ...], *, is_typed: bool) -> list[str]:
    """Return what is wrong with the words behind `admin`.

    Args:
        is_typed: Whether they stand in a block of a shell, where arguments must be there, too.
    """
    command: click.Command = cli
    rest = list(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.commands.get(rest[0])
        if found is None and PLACEHOLDER.fullmatch(rest[0]):
            return []
        if found is None:
            return [f"admin has no {' '.join(words[: len(words) - len(rest) + 1])}"]
        command, rest = found, rest[1:]
    return _option_faults(command, rest, is_typed=is_typed)


def _option_faults(command: click.Command, words: list[str], *, is_typed: bool) -> list[str]:
    # With the group's settings: click keeps a command's option for help as it was first asked for.
    parent = click.Context(cli, **cli.context_settings)
    parser = command.make_parser(click.Context(command, parent, info_name=command.name))
    if not is_typed and words and words[-1] in _options_with_a_value(command):
        words = [*words, "VALUE"]  # a sentence may leave it out
    try:
        values, left, _ = parser.parse_args(list(words))
    except click.MissingParameter as error:
        return [error.format_message()] if is_typed else []
    except click.UsageError as error:
        return [error.format_message()]
    surplus = [f"{command.name} takes no {' '.join(left)}"] if left else []
    return surplus + [
        f"{each.name}: not {values[each.name]}"
        for each in command.params
        if isinstance(each.type, click.Choice) and each.name in values
        if not _is_among(values[each.name], each.type.choices)
    ]


def _is_among(value: Any, choices: Iterable[Any]) -> bool:
    values = value if isinstance(value, list) else [value]
    return all(
        each is None or each in choices or PLACEHOLDER.fullmatch(str(each)) for each in values
    )


def _options_with_a_value(command: click.Command) -> set[str]:
    options = [each for each in command.params if isinstance(each, click.Option)]
    return {name for each in options if not each.is_flag for name in each.opts}


def service_faults(words: tuple[str, ...], *, is_typed: bool) -> list[str]:
    """Return what is wrong with the words behind `python app.py`."""
    if words[:1] == ("admin",):
        return admin_faults(words[1:], is_typed=is_typed)
    return [] if words in {(), ("worker",), ("--debug",)} else [f"app.py has no {' '.join(words)}"]


def make_faults(words: tuple[str, ...]) -> list[str]:
    """Return the targets that the Makefile does not have."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    asked = {word for word in words if "=" not in word}
    return [f"make has no {each}" for each in sorted(asked - targets)]


def docker_faults(words: tuple[str, ...]) -> list[str]:
    """Return what is wrong with the words behind `docker`."""
    if words[0] == "compose":
        return _compose_faults(list(words[1:]))
    if words[0] in {"run", "build", "pull", "push", "load", "tag", "inspect", "buildx"}:
        images = [word for word in words[1:] if OUR_IMAGE in word or word == "IMAGE"]
        return [] if images or words[0] == "build" else [f"no image of ours: {' '.join(words)}"]
    return [f"docker {words[0]} is in no table here"]


def _compose_faults(words: list[str]) -> list[str]:
    compose: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    verb, *rest = words
    if verb not in COMPOSE:
        return [f"docker compose {verb} is in no table here"]
    options = [word for word in rest if word.startswith("-")]
    services = [word for word in rest if not word.startswith("-")][: 1 if verb == "exec" else None]
    return [
        *(f"compose {verb} has no {each}" for each in options if each not in COMPOSE[verb]),
        *(f"compose.yaml has no {each}" for each in services if each not in compose["services"]),
    ]


def kustomize_faults(words: tuple[str, ...]) -> list[str]:
    """Return what is wrong with `kustomize edit set image NAME=NEW`."""
    if words[:3] != ("edit", "set", "image") or len(words) != 4:
        return [f"kustomize has no {' '.join(words)}"]
    return [] if words[3].startswith(f"{OUR_IMAGE}=") else [f"no image {words[3]}"]


def shell_faults(words: tuple[str, ...]) -> list[str]:
    """Expect a shell in a pod to do no more than send process 1 a signal that means something."""
    known = {("-c", f"kill -{name} 1") for name in ("USR1", "USR2")}
    return [] if words in known else [f"sends process 1 no signal that it hears: {words}"]
