"""The HTML of the page /account, with its words filled in."""

from __future__ import annotations

import time
from importlib.resources import files
from typing import TYPE_CHECKING

from chassis.once import once
from userservice.account.words import LABELS, LANGUAGE, SCRIPTED

if TYPE_CHECKING:
    from jinja2 import Template


def render_page(service: str) -> str:
    """Return the HTML, the same but for the time, by which the script knows expired links.

    Args:
        service: The name of the service.
    """
    return _template().render(
        service=service, language=LANGUAGE, labels=LABELS, scripted=SCRIPTED, now=int(time.time())
    )


@once
def _template() -> Template:
    # Only processes that show the page need it.
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415

    environment = Environment(autoescape=True, undefined=StrictUndefined)
    text = (files("userservice.account") / "page.html").read_text(encoding="utf-8")
    return environment.from_string(text)
