"""A change of the address beside the end of the password that it was asked for with."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from chassis.links import InvalidLink
from tests.emails.accounts import columns_of
from tests.support.factories import make_user
from tests.support.orders import hold_everywhere
from userservice.emails import confirmation, service
from userservice.emails.schemas import EmailChange
from userservice.users import links
from userservice.users.errors import EmailTaken, UserNotFound, WrongPassword
from userservice.users.links import Purpose
from userservice.users.queries import users

OLD = "correct horse battery"
ENDED = "!"  # a hash that no password has
WANTED = "wanted@example.com"
EXPECTED = (WrongPassword, InvalidLink, UserNotFound, EmailTaken)


def unlimited(_email):
    """Count nothing."""


class Case:
    """A user, and what the owner and a thief of the old password do with the account."""

    def __init__(self, services):
        self.services = services
        self.database = services.database
        self.user = make_user(self.database, password=OLD)

    def ask(self):
        wish = EmailChange.load_values({"email": WANTED, "current_password": OLD})
        service.request_change(self.services, self.user.id, wish, count=unlimited)

    def move(self):
        wish = EmailChange.load_values({"email": WANTED, "current_password": OLD})
        service.change_at_once(
            self.services, self.user.id, wish, count=unlimited, is_announced=True
        )

    def change_password(self):
        self._change(password_hash=ENDED, **links.voided())

    def suspend(self):
        self._change(password_hash=ENDED, suspended_at=self.user.created_at, **links.voided())

    def _change(self, **values):
        with self.database.transaction() as connection:
            connection.execute(update(users).where(users.c.id == self.user.id).values(values))

    def pending(self):
        return columns_of(self.database, self.user.id, "pending_email")[0]


def hold(services, first, second, check):
    cases = []

    def prepare():
        cases.append(Case(services))
        return (lambda: first(cases[-1])), (lambda: second(cases[-1]))

    return hold_everywhere(services.database, prepare, lambda: check(cases[-1]), *EXPECTED)


def has_nothing_pending(case):
    assert case.pending() is None


@pytest.mark.parametrize("end", [Case.change_password, Case.suspend], ids=lambda end: end.__name__)
def test_no_address_that_was_asked_for_with_the_old_password_survives(services, end):
    assert hold(services, Case.ask, end, has_nothing_pending) >= 3
    assert hold(services, end, Case.ask, has_nothing_pending) >= 2


def test_a_first_link_that_is_made_meanwhile_costs_no_change(services):
    def make_link(case):
        links.make_link(services, Purpose.VERIFICATION, case.user.id, case.user.created_at)

    def waits(case):
        assert case.pending() == WANTED

    assert hold(services, Case.ask, make_link, waits) >= 3
    assert hold(services, make_link, Case.ask, waits) >= 2


def ended_whether_it_moved_or_not(case):
    """Assert that the end holds; make room for the next order, which wants the same address."""
    email, hashed, pending = columns_of(
        case.database, case.user.id, "email", "password_hash", "pending_email"
    )
    assert email in {case.user.email, WANTED}
    assert (hashed, pending) == (ENDED, None)
    with case.database.connection() as connection:
        own = update(users).where(users.c.id == case.user.id)
        connection.execute(own.values(status="deleted"))


@pytest.mark.parametrize("end", [Case.change_password, Case.suspend], ids=lambda end: end.__name__)
def test_a_change_at_once_beside_an_end_neither_deadlocks_nor_loses_the_end(services, end):
    assert hold(services, Case.move, end, ended_whether_it_moved_or_not) >= 3
    assert hold(services, end, Case.move, ended_whether_it_moved_or_not) >= 2


class Linked(Case):
    """The same, with a link that was mailed to the address that is wanted."""

    def __init__(self, services):
        super().__init__(services)
        self.ask()
        _, self.token = links.make_link(
            services, Purpose.CHANGE, self.user.id, self.user.created_at
        )

    def confirm(self):
        confirmation.confirm(self.services, self.user.id, self.token)


def test_a_link_that_is_followed_beside_an_end_moves_before_it_or_not_at_all(services):
    cases = []

    def prepare():
        cases.append(Linked(services))
        return cases[-1].confirm, cases[-1].change_password

    def check():
        with pytest.raises(InvalidLink):
            cases[-1].confirm()
        ended_whether_it_moved_or_not(cases[-1])

    assert hold_everywhere(services.database, prepare, check, *EXPECTED) >= 3
