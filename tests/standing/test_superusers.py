"""The last superuser who could log in stays, whatever happens at the same time."""

from __future__ import annotations

from itertools import combinations_with_replacement
from threading import Barrier, Thread

import pytest
from sqlalchemy import delete, func, select, update

from chassis.errors import Forbidden
from tests.support.factories import CHEAP_HASHER, make_user
from tests.support.orders import hold_everywhere
from tests.support.waiting import DEADLINE_SECONDS
from userservice.privacy.service import erase
from userservice.standing.rights import demote, promote
from userservice.standing.service import reinstate, suspend
from userservice.users.credentials import check_password
from userservice.users.errors import LastSuperuser, UserNotFound, WrongPassword
from userservice.users.queries import users
from userservice.users.service import delete_user
from userservice.users.superusers_queries import IS_ABLE

PASSWORD = "correct horse battery"
ENDS = (demote, suspend, delete_user, erase)
PAIRS = list(combinations_with_replacement(ENDS, 2))
ROUNDS = 50


def name_pair(pair):
    return "-".join(each.__name__ for each in pair)


def make_superuser(database, password=PASSWORD):
    return make_user(database, is_superuser=True, password=password)


def count_able(database):
    with database.connection() as connection:
        return connection.scalar(select(func.count()).where(IS_ABLE))


def is_superuser(database, user):
    with database.connection() as connection:
        return connection.scalar(select(users.c.is_superuser).where(users.c.id == user.id))


def empty(database):
    with database.connection() as connection:
        connection.execute(delete(users))


def at_once(*works):
    """Do all in threads that start together; return what each raised."""
    barrier, raised = Barrier(len(works), timeout=DEADLINE_SECONDS), []

    def work(each):
        barrier.wait()
        try:
            each()
        except Exception as error:  # noqa: BLE001 - told by the test
            raised.append(error)

    threads = [Thread(target=work, args=(each,)) for each in works]
    for each in threads:
        each.start()
    for each in threads:
        each.join(DEADLINE_SECONDS)
        assert not each.is_alive()
    return raised


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_the_only_superuser_who_could_log_in_stays_one(database, end):
    only = make_superuser(database)

    with pytest.raises(LastSuperuser):
        end(database, only.id)

    assert count_able(database) == 1


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_superusers_who_could_not_log_in_count_for_nothing(database, end):
    only, deleted, suspended = (make_superuser(database) for _ in range(3))
    make_superuser(database, password=None)
    delete_user(database, deleted.id)
    suspend(database, suspended.id)

    with pytest.raises(LastSuperuser):
        end(database, only.id)

    reinstate(database, suspended.id)
    end(database, only.id)
    assert count_able(database) == 1


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_without_any_who_could_log_in_none_is_the_last(database, end):
    unable = make_superuser(database, password=None)

    end(database, unable.id)

    assert count_able(database) == 0


@pytest.mark.parametrize("pair", PAIRS, ids=name_pair)
def test_of_two_that_take_the_last_two_at_once_one_fails(database, pair):
    for _ in range(ROUNDS):
        both = [make_superuser(database) for _ in pair]

        raised = at_once(
            lambda both=both: pair[0](database, both[0].id),
            lambda both=both: pair[1](database, both[1].id),
        )

        assert [type(each) for each in raised] == [LastSuperuser]
        assert count_able(database) == 1
        empty(database)


@pytest.mark.parametrize("pair", PAIRS, ids=name_pair)
def test_one_that_is_held_anywhere_leaves_a_superuser(database, pair):
    def prepare():
        empty(database)
        one, other = make_superuser(database), make_superuser(database)
        return (lambda: pair[0](database, one.id)), (lambda: pair[1](database, other.id))

    def check():
        assert count_able(database) == 1

    assert hold_everywhere(database, prepare, check, LastSuperuser) >= 3


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_a_user_who_becomes_the_last_meanwhile_stays(database, end):
    def prepare():
        empty(database)
        first, user = make_superuser(database), make_user(database, password=PASSWORD)

        def replace():
            promote(database, user.id)
            demote(database, first.id)

        return (lambda: end(database, user.id)), replace

    def check():
        assert count_able(database) == 1

    assert hold_everywhere(database, prepare, check, LastSuperuser, UserNotFound) >= 2


def test_many_that_demote_themselves_at_once_leave_one(database):
    many = [make_superuser(database) for _ in range(8)]

    raised = at_once(*(lambda each=each: demote(database, each.id) for each in many))

    assert [type(each) for each in raised] == [LastSuperuser]
    assert count_able(database) == 1


# Making them


def test_a_user_is_promoted_and_demoted_and_the_version_stays(database):
    make_superuser(database)
    user = make_user(database, password=PASSWORD)

    promote(database, user.id)
    promote(database, user.id)
    promoted = is_superuser(database, user)
    demote(database, user.id)
    demote(database, user.id)

    assert (promoted, is_superuser(database, user)) == (True, False)
    with database.connection() as connection:
        assert connection.scalar(select(users.c.version).where(users.c.id == user.id)) == 1


@pytest.mark.parametrize("change", [promote, demote])
def test_a_user_who_is_not_there_gets_and_loses_no_rights(database, change):
    make_superuser(database)
    deleted = make_user(database)
    delete_user(database, deleted.id)

    with pytest.raises(UserNotFound):
        change(database, deleted.id)

    assert is_superuser(database, deleted) is False


def test_the_password_of_the_superuser_who_asks_is_checked(database):
    superuser, user = make_superuser(database), make_user(database)

    with pytest.raises(WrongPassword):
        check_password(database, CHEAP_HASHER, superuser.id, "another sentence of length")
    promote(database, user.id, by=check_password(database, CHEAP_HASHER, superuser.id, PASSWORD))

    assert is_superuser(database, user) is True


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_a_superuser_who_is_none_since_the_check_promotes_nobody(database, end):
    make_superuser(database)
    superuser, user = make_superuser(database), make_user(database)
    checked = check_password(database, CHEAP_HASHER, superuser.id, PASSWORD)
    end(database, superuser.id)

    with pytest.raises(Forbidden):
        promote(database, user.id, by=checked)

    assert is_superuser(database, user) is False


def test_a_superuser_whose_password_changed_since_the_check_promotes_nobody(database):
    superuser, user = make_superuser(database), make_user(database)
    checked = check_password(database, CHEAP_HASHER, superuser.id, PASSWORD)
    new_hash = CHEAP_HASHER.hash("another sentence of length")
    with database.connection() as connection:
        own = users.c.id == superuser.id
        connection.execute(update(users).where(own).values(password_hash=new_hash))

    with pytest.raises(Forbidden):
        promote(database, user.id, by=checked)

    assert is_superuser(database, user) is False
