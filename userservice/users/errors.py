"""Expected failures about users."""

from __future__ import annotations

from chassis.errors import Conflict, Forbidden, NotFound


class EmailTaken(Conflict):
    """Another live user has this address, perhaps in another spelling."""

    code = "email_taken"
    title = "User already exists"
    remedy = "Log in as that user, or send another address."


class ConfirmationRequired(Forbidden):
    """A user's own address is not changed by PATCH: an access token alone moves no account."""

    code = "confirmation_required"
    title = "A change of the address has to be confirmed"
    remedy = "Send the address with the current password to /users/{id}/email."


class UserSuspended(Conflict):
    """The user is suspended, and this is for users who may log in."""

    code = "user_suspended"
    title = "User is suspended"
    remedy = "Reinstate the user first: DELETE /users/{id}/suspension."


class LastSuperuser(Conflict):
    """No other superuser could log in: live, not suspended, with a password."""

    code = "last_superuser"
    title = "No other superuser could log in"
    remedy = "Give another user with a password the rights of a superuser first."


class SuperuserProtected(Forbidden):
    """An API key with a name and scopes changes users who are no superusers; this one is."""

    code = "superuser_protected"
    title = "API keys do not change superusers"
    remedy = "Do it as a superuser, or on the command line."


class UserNotFound(NotFound):
    """There is no live user with this id."""

    code = "user_not_found"
    title = "User not found"


class WrongPassword(Forbidden):
    """The current password that came along is not the user's."""

    code = "wrong_password"
    title = "The current password is wrong"
    remedy = "Send the present password of the user who calls."
