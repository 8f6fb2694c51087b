"""The table of the deeds that the audit trail names, from their enumeration."""  # noqa: INP001 - beside the documents

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

from userservice.actions import Action

# A member, and the comment behind it, without what a linter is told there.
MEMBER = re.compile(
    r"^    (?P<name>[A-Z_]+) = [^#\n]*(?:# (?:noqa: \w+ - )?(?P<remark>.*))?$", re.MULTILINE
)


def rows() -> Iterator[tuple[str, str]]:
    """Yield each deed's name, and the remark of the enumeration about it."""
    for member in MEMBER.finditer(inspect.getsource(Action)):
        yield f"`{Action[member['name']].value}`", member["remark"] or ""
