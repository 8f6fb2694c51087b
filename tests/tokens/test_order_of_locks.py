"""Grants and ends of log-ins at the same time: after both no token works that should not."""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import replace

import pytest
from sqlalchemy import event, func, select

from app import make_token_issuer
from bootstrap import open_backing_services
from chassis.links import InvalidLink
from chassis.security import fingerprint
from chassis.storage.database import DatabaseManager
from chassis.storage.ids import uuid7
from config import AppConfig
from tests.support.factories import CHEAP_HASHER, begin_log_in, make_user
from tests.support.orders import hold_everywhere
from tests.support.passwords import NEW, OLD, change, make_token, reset
from userservice.logins import queries
from userservice.logins.queries import LogIn
from userservice.passwords import service as passwords
from userservice.privacy.service import erase
from userservice.sessions import service as sessions
from userservice.sessions.errors import SessionNotFound
from userservice.standing import service as standing
from userservice.tokens import service
from userservice.tokens.errors import InvalidGrant
from userservice.tokens.service import PasswordGrant
from userservice.users import credentials
from userservice.users import service as users
from userservice.users.errors import UserNotFound, WrongPassword

CONFIG = AppConfig()
EXPECTED = (InvalidGrant, InvalidLink, SessionNotFound, UserNotFound, WrongPassword)


class Case:
    """A user, a log-in whose answer is known, and what can be done with both."""

    def __init__(self, database):
        self.database = database
        opened = open_backing_services(CONFIG)
        self.services = replace(opened, database=database, hasher=CHEAP_HASHER)
        self.issuer = make_token_issuer(CONFIG)
        self.user = make_user(database, password=OLD)
        self.first = begin_log_in(database, CONFIG, self.user)
        self.pair = service.refresh(database, self.issuer, self.first.refresh_token)
        self.session_id = self.claims(self.pair).session_id
        self.granted = [self.pair]
        self.token = make_token(self.services, self.user)

    def claims(self, pair):
        return self.issuer.access_tokens.read(pair.access_token)

    # Grants.

    def refresh(self):
        pair = service.refresh(self.database, self.issuer, self.pair.refresh_token)
        self.granted.append(pair)

    def log_in(self):
        grant = PasswordGrant(self.user.email, OLD)
        self.granted.append(service.log_in(self.database, CHEAP_HASHER, self.issuer, grant))

    # Ends.

    def log_out(self):
        service.revoke(self.database, self.pair.refresh_token)

    def come_back_spent(self):
        with self.database.connection() as connection:
            values = {"salt": None}  # as the release before spends
            spent = queries.tokens.c.token_hash == fingerprint(self.first.refresh_token.encode())
            connection.execute(queries.tokens.update().where(spent).values(values))
        service.refresh(self.database, self.issuer, self.first.refresh_token)

    def end_session(self):
        sessions.end_session(self.database, self.user.id, self.session_id)

    def end_sessions(self):
        sessions.end_sessions(self.database, self.user.id)

    def delete_user(self):
        users.delete_user(self.database, self.user.id)

    def erase(self):
        erase(self.database, self.user.id)

    def suspend(self):
        standing.suspend(self.database, self.user.id)

    def change_password(self):
        change(self.services, self.user)

    def reset_password(self):
        reset(self.services, self.token)

    def set_password(self):
        passwords.set_password(self.services, self.user.id, NEW)

    def check(self):
        """Assert that nothing works any more."""
        with self.database.connection() as connection:
            own = queries.tokens.c.user_id == self.user.id
            assert connection.scalar(select(func.count()).where(own)) == 0
        for pair in self.granted:
            assert credentials.find_is_superuser(self.database, self.claims(pair)) is None


NEW_PASSWORDS = (Case.change_password, Case.reset_password, Case.set_password)
ENDS = (
    Case.log_out,
    Case.come_back_spent,
    Case.end_session,
    Case.end_sessions,
    Case.delete_user,
    Case.erase,
    Case.suspend,
    *NEW_PASSWORDS,
)


def hold(database, first, second, make_case=Case):
    """Hold the first piece of work everywhere; return the number of orders."""
    cases = []

    def prepare():
        cases.append(make_case(database))
        return (lambda: first(cases[-1])), (lambda: second(cases[-1]))

    def check():
        cases[-1].check()

    return hold_everywhere(database, prepare, check, *EXPECTED)


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_a_refresh_that_is_held_anywhere_does_not_survive_an_end(database, end):
    assert hold(database, Case.refresh, end) >= 5


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_an_end_that_is_held_anywhere_leaves_no_refresh_behind(database, end):
    assert hold(database, end, Case.refresh) >= 3


@pytest.mark.parametrize(
    "end",
    [Case.delete_user, Case.erase, Case.suspend, *NEW_PASSWORDS],
    ids=lambda e: e.__name__,
)
def test_a_log_in_verified_with_the_hash_of_before_does_not_survive_an_end(database, end):
    assert hold(database, Case.log_in, end) >= 5
    assert hold(database, end, Case.log_in) >= 3


def test_two_ends_of_the_same_log_ins_do_not_wait_for_each_other(database):
    for end in ENDS:
        assert hold(database, end, Case.end_sessions) >= 3


class Crowded(Case):
    """The same, with as many log-ins as a user may have; the first is the oldest."""

    def __init__(self, database):
        super().__init__(database)
        with database.transaction() as connection:
            for _ in range(queries.MAX_LOG_INS - 1):
                self.issuer.begin(connection, LogIn(self.user.id, uuid7(), None))

    def check(self):
        """Assert that there are not too many, and that the newest is among them."""
        with self.database.connection() as connection:
            assert queries.count_living(connection, self.user.id) <= queries.MAX_LOG_INS
        newest = max((self.claims(each) for each in self.granted), key=lambda each: each.session_id)
        assert credentials.find_is_superuser(self.database, newest) is False


@pytest.mark.parametrize("other", [Case.refresh, Case.log_in], ids=lambda work: work.__name__)
def test_a_log_in_too_many_ends_the_oldest_whatever_happens_to_that_meanwhile(database, other):
    assert hold(database, Case.log_in, other, Crowded) >= 5
    assert hold(database, other, Case.log_in, Crowded) >= 5


@pytest.fixture
def postgresql(postgresql_url):
    with closing(DatabaseManager(postgresql_url).initialize()) as manager:
        yield manager


@pytest.mark.parametrize("work", [Case.refresh, Case.log_in, *ENDS], ids=lambda work: work.__name__)
def test_grants_and_ends_lock_the_row_of_the_user_before_they_change_a_token(postgresql, work):
    case = Case(postgresql)
    seen = []

    @event.listens_for(postgresql.engine, "do_execute")
    def note(_cursor, statement, _values, _context):
        seen.append(statement)

    with suppress(InvalidGrant):
        work(case)

    changes = ("INSERT INTO refresh_tokens", "UPDATE refresh_tokens", "DELETE FROM refresh_tokens")
    # That of a test which prepares the row has no lock to wait for.
    changed = next(n for n, each in enumerate(seen) if each.startswith(changes) and n)
    before = "".join(seen[:changed])
    assert "FOR SHARE" in before or "FOR NO KEY UPDATE" in before or "UPDATE users" in before
