"""New passwords at the same time as each other, and as the log-in that goes on."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from chassis.background import outbox
from tests.support.passwords import change
from tests.tokens.test_order_of_locks import Case, hold
from userservice.passwords import service
from userservice.tokens.service import refresh
from userservice.users import credentials

pytestmark = pytest.mark.integration


class Told(Case):
    """A user with one link and one password, of which one is used up first."""

    def check(self):
        """Assert that nothing works any more, and that one new password was told."""
        super().check()
        with self.database.connection() as connection:
            topic = outbox.messages.c.topic == service.PASSWORD_CHANGED
            payloads = connection.scalars(select(outbox.messages.c.payload).where(topic)).all()
        assert [each["user_id"] for each in payloads].count(str(self.user.id)) == 1


class Kept(Case):
    """The same, where the log-in that changes the password goes on."""

    def change_here(self):
        change(self.services, self.user, keep=self.session_id)

    def check(self):
        """Assert that the log-in lives, and can be renewed."""
        assert credentials.find_is_superuser(self.database, self.claims(self.pair)) is False
        newest = self.granted[-1].refresh_token
        pair = refresh(self.database, self.issuer, newest)
        assert self.claims(pair).session_id == self.session_id


@pytest.mark.parametrize("first", [Case.change_password, Case.reset_password])
@pytest.mark.parametrize("second", [Case.change_password, Case.reset_password])
def test_of_two_new_passwords_at_once_one_is_stored(database, first, second):
    assert hold(database, first, second, Told) >= 5


def test_a_change_and_a_refresh_of_the_log_in_that_goes_on_do_not_disturb_each_other(database):
    assert hold(database, Kept.change_here, Kept.refresh, Kept) >= 5
    assert hold(database, Kept.refresh, Kept.change_here, Kept) >= 5
