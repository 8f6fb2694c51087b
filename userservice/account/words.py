"""The words of the page /account: all that it says, in one place, to be changed or translated.

`{service}` stands for the service's name, `{time}` for "in 3 minutes" in the page's language, and
`{id}` for the id of a request. Reasons to refuse a password come from the service's answers.
"""

from __future__ import annotations

from collections.abc import Mapping

from chassis.passwords import MIN_LENGTH

LANGUAGE = "en"

# Texts that stand in the page from the start.
LABELS: Mapping[str, str] = {
    "heading": "Your account",
    "unscripted": "This page needs JavaScript, and a browser of the last few years. Switch "
    "JavaScript on, or take another browser, and open the link of the e-mail again. Nothing has "
    "been changed.",
    "address": "E-mail address",
    "own_address": "E-mail address (optional)",
    "own_address_hint": "For your password manager only; it is not sent.",
    "new_password": "New password",
    "new_password_hint": f"At least {MIN_LENGTH} characters, and not easy to guess.",
    "password": "Password",
    "show": "Show",
    "hide": "Hide",
}

_RESET = {
    "title": "Choose a new password",
    "lead": "All log-ins of your account end then, on every device.",
    "button": "Set the password",
    "done": "Your password is set",
    "after": "Log in with it wherever you use your account. You can close this page.",
}

# Purpose of a link, or "forgot" without one -> title, lead, button; and what is said when it is
# done.
VIEWS: Mapping[str, Mapping[str, str]] = {
    "forgot": {
        "title": "Forgot your password?",
        "lead": "Enter your e-mail address. If it belongs to an account, you get an e-mail with a "
        "link to choose a new password.",
        "button": "Send the link",
        "done": "Look into your mailbox",
        "after": "If this address belongs to an account, an e-mail is on its way. That can take "
        "some minutes; look into the folder for spam as well.",
    },
    "reset": _RESET,
    "invite": {
        "title": "Choose your password",
        "lead": "An account has been made for you. With a password of your own you can log in.",
        "button": "Set the password",
        "done": "Your password is set",
        "after": "You can log in with it now, and close this page.",
    },
    "printed": _RESET,
    "verify": {
        "title": "Confirm your e-mail address",
        "lead": "Log in to confirm that the address is yours.",
        "button": "Log in and confirm",
        "done": "Your e-mail address is confirmed",
        "after": "You are logged out here again, and can close this page.",
    },
    "change": {
        "title": "Confirm your new e-mail address",
        "lead": "Log in with the address that you had so far. The new one holds from then on.",
        "button": "Log in and confirm",
        "done": "Your new e-mail address holds",
        "after": "You are logged out here again, and can close this page. Log in with the new "
        "address from now on.",
    },
}

MESSAGES: Mapping[str, str] = {
    "garbled": "This link is not whole. Open it from the e-mail again, and copy all of it.",
    "expired": "This link has expired.",
    "dead": "This link does not hold any more: it has expired, it was used before, or a newer "
    "one replaced it.",
    "again": "You can ask for a new one here.",
    "again_elsewhere": "Ask for a new e-mail where you use your account.",
    "maybe_done": "An earlier try may have got through; then it is done already.",
    "wrong": "This address and this password do not belong together.",
    "foreign": "This link belongs to another account than the one that you logged in to.",
    "taken": "Another account has this address meanwhile. Yours keeps the address it had.",
    "too_many": "These were too many tries. Try again {time}.",
    "busy": "The service is busy, and nothing was changed. Try again {time}.",
    "offline": "The service did not answer. Look after your connection, and try again.",
    "failed": "This did not work, for a reason that the service did not expect. Try again later; "
    "if it happens again, report the number {id}.",
    "later": "later",
}

# All that the script says; it takes the texts that stand in the page from there.
SCRIPTED: Mapping[str, object] = {
    "language": LANGUAGE,
    "labels": LABELS,
    "views": VIEWS,
    "messages": MESSAGES,
}
