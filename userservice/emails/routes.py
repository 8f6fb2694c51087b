"""/users/{id}/email and /auth/email over HTTP."""

from __future__ import annotations

from http import HTTPStatus
from uuid import UUID

from flask import Blueprint, Response

from chassis.http.auth import Guard, caller_id, requires
from chassis.http.context import backing_services, web_context
from chassis.http.operation import Operation
from chassis.http.rate_limit import limit_address, limit_caller, require_within
from chassis.http.web import NO_STORE, empty_response, read_body
from chassis.links import InvalidLink
from userservice.emails import confirmation, service
from userservice.emails.schemas import EmailChange, EmailConfirmation
from userservice.tokens.schemas import OAuthProblem
from userservice.users.addresses import mailbox_key
from userservice.users.errors import EmailTaken, UserNotFound, WrongPassword
from userservice.users.policy import EmailPolicy
from userservice.users.service import get_user

blueprint = Blueprint("emails", __name__)


@blueprint.post("/users/<uuid:user_id>/email")
@requires(Guard.SELF)
@limit_caller("password")
@Operation(
    "Change one's address",
    tag="emails",
    body=EmailChange,
    returns={202: None, 204: None},
    raises=(WrongPassword, EmailTaken, UserNotFound),
)
def change_email(user_id: UUID) -> Response:
    """202: a link goes to the new address; until that is confirmed the old one stays in force.

    The answer is the same where another user has the address. With EMAIL_VERIFICATION=off the
    address changes at once: 204, or 409 where another user has it.
    """
    wish = read_body(EmailChange)
    services, policy = backing_services(), web_context().part(EmailPolicy)
    if policy.confirms:
        service.request_change(services, user_id, wish, count=_count)
        return empty_response(HTTPStatus.ACCEPTED)
    service.change_at_once(services, user_id, wish, count=_count, is_announced=policy.announces)
    return empty_response(HTTPStatus.NO_CONTENT)


def _count(email: str) -> None:
    """Count an e-mail to an address; the answer does not show what others have asked for it.

    Raises:
        TooManyRequests: the address gets no more for now.
    """
    require_within("recovery", mailbox_key(email))


@blueprint.post("/users/<uuid:user_id>/email/verification")
@requires(Guard.SELF)
@limit_caller("recovery")
@Operation(
    "Have a link mailed that verifies one's address",
    tag="emails",
    returns={202: None, 204: None},
    raises=(UserNotFound,),
)
def request_verification(user_id: UUID) -> Response:
    """204: the address is verified already."""
    database = backing_services().database
    limit_address("recovery", mailbox_key(get_user(database, user_id).email))
    is_asked = service.request_verification(database, user_id)
    return empty_response(HTTPStatus.ACCEPTED if is_asked else HTTPStatus.NO_CONTENT)


@blueprint.post("/auth/email/confirm")
@requires(Guard.USER)
@Operation(
    "Confirm an address by the link that was mailed to it",
    tag="emails",
    body=EmailConfirmation,
    returns={204: None},
    raises=(InvalidLink, EmailTaken),
    problem=OAuthProblem,
)
def confirm_email() -> Response:
    """Needs an access token of the user whose link it is: a stranger's click does nothing."""
    token = read_body(EmailConfirmation).token.get_secret_value()
    confirmation.confirm(backing_services(), caller_id(), token)
    return empty_response(HTTPStatus.NO_CONTENT, NO_STORE)
