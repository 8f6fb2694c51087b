"""E-mails written from files: a folder for each template, with subject.txt, text.txt, html.html."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from chassis.once import once_property

if TYPE_CHECKING:
    from jinja2 import Environment

# Line ends and controls, of which a header may hold none.
_UNPRINTABLE = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


class Letter(NamedTuple):
    """The words of an e-mail, for people who read text and for those who read HTML."""

    subject: str
    text: str
    html: str


class MailTemplates:
    """Fills in templates of Jinja; in HTML each value is escaped, unless a template says otherwise.

    A value that is missing is an error, and no gap in an e-mail.

    Args:
        folder: Where the templates are.
        common: Values for all templates.
    """

    def __init__(self, folder: Path, common: Mapping[str, str]) -> None:
        self._folder = folder
        self._common = common

    @once_property
    def _environment(self) -> Environment:
        # Only processes that write e-mails need it.
        from jinja2 import (  # noqa: PLC0415
            Environment,
            FileSystemLoader,
            StrictUndefined,
            select_autoescape,
        )

        environment = Environment(
            loader=FileSystemLoader(self._folder),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        environment.globals |= self._common
        return environment

    def render(self, template: str, variables: Mapping[str, str]) -> Letter:
        """Return the words of an e-mail.

        Raises:
            jinja2.TemplateError: there is no such template, or a value is missing.
        """
        subject, text, html = (
            self._environment.get_template(f"{template}/{name}").render(variables)
            for name in ("subject.txt", "text.txt", "html.html")
        )
        return Letter(_UNPRINTABLE.sub(" ", subject).strip(), text, html)
