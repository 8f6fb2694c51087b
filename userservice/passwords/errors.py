"""Expected failures about passwords."""

from __future__ import annotations

from chassis.errors import FieldError, InvalidRequest


class GuessablePassword(InvalidRequest):
    """The new password is among the first that an attacker tries."""

    def __init__(self) -> None:
        text = "New password is too easy to guess"
        super().__init__(text, errors=[FieldError("/new_password", text)])
