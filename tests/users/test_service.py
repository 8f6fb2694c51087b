from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from uuid import UUID

import pytest
from sqlalchemy.exc import IntegrityError

from chassis.errors import PreconditionFailed, Unavailable
from chassis.storage.database import DatabaseManager
from tests.conftest import API_KEY
from tests.support.factories import ADA, make_user
from tests.support.waiting import DEADLINE_SECONDS
from userservice.users import queries, registration, service
from userservice.users.errors import EmailTaken, UserNotFound
from userservice.users.models import Status
from userservice.users.schemas import UserCreate, UserUpdate

NOWHERE = "postgresql://app@127.0.0.1:1/app"

NOBODY = UUID("0190a6e4-5b1c-7d3e-8f00-123456789abc")
AT_ONCE = 12


def change(**members):
    """Make a patch."""
    return UserUpdate.model_validate(members)


def list_all(database, status=Status.ACTIVE):
    """Return the users of a status."""
    return service.list_users(database, status=status, email=None, after=None, limit=1000)


def age(database, user, days):
    """Make a user's last change lie in the past."""
    moment = datetime.now(UTC) - timedelta(days=days)
    with database.connection() as connection:
        connection.execute(
            queries.users.update().where(queries.users.c.id == user.id).values(updated_at=moment)
        )


def purge(database, days):
    """Purge users deleted more than `days` ago; return their number."""
    before = datetime.now(UTC) - timedelta(days=days)
    return sum(service.purge_deleted_users(database, before=before))


def all_at_once(action, count=AT_ONCE):
    """Call `action(number)` from as many threads, which start together; return the results."""
    barrier = Barrier(count, timeout=DEADLINE_SECONDS)

    def wait_and_act(number):
        barrier.wait()
        return action(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(wait_and_act, range(count)))


# Registering


def test_a_registered_user_is_read_back_equal(database):
    user = make_user(database, **ADA)

    assert service.get_user(database, user.id) == user
    assert user.status == Status.ACTIVE
    assert user.version == 1
    assert user.created_at == user.updated_at
    assert user.created_at.utcoffset() == timedelta(0)


def test_ids_ascend_with_the_time_of_registration(database):
    first = make_user(database)
    age_of_first = first.id.int >> 80  # milliseconds since the epoch
    second = make_user(database)

    assert second.id.int >> 80 >= age_of_first
    assert abs(age_of_first / 1000 - first.created_at.timestamp()) < 5


def test_a_registration_is_logged_without_personal_data(database, caplog):
    with caplog.at_level(logging.INFO, logger="userservice.users.registration"):
        user = make_user(database, **ADA, source="mobile")

    (record,) = (each for each in caplog.records if each.name == "userservice.users.registration")
    assert record.getMessage() == "User created successfully"
    assert record.user_id == str(user.id)
    assert record.signup_source == "mobile"
    assert ADA["email"] not in str(vars(record))


def test_an_address_belongs_to_one_live_user(database):
    make_user(database, email="ada@example.com")

    with pytest.raises(EmailTaken):
        make_user(database, email="Ada@Example.com")

    assert len(list_all(database)) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("stra\u00dfe@example.com", "STRASSE@example.com"),
        (
            "\u03c3\u03bf\u03c6\u03cc\u03c2@example.com",
            "\u03a3\u039f\u03a6\u038c\u03a3@example.com",
        ),
    ],
    ids=["sharp s", "final sigma"],
)
def test_an_address_is_the_same_in_any_case_of_any_alphabet(database, first, second):
    make_user(database, email=first)

    with pytest.raises(EmailTaken):
        make_user(database, email=second)


def test_a_rule_that_is_broken_other_than_that_of_addresses_is_a_defect(database, monkeypatch):
    user = make_user(database)
    monkeypatch.setattr(registration, "uuid7", lambda: user.id)

    with pytest.raises(IntegrityError):
        make_user(database)


def test_twelve_equal_registrations_at_once_make_one_user(app, database):
    def register(_number):
        return app.test_client().post("/users", json=ADA)

    responses = all_at_once(register)

    assert sorted(each.status_code for each in responses) == [201] + [409] * 11
    assert {each.json["error"] for each in responses if each.status_code == 409} == {
        "User already exists"
    }
    (user,) = list_all(database)
    (created,) = (each for each in responses if each.status_code == 201)
    assert created.json["id"] == str(user.id)


def test_twelve_different_registrations_at_once_all_succeed(app, database):
    def register(number):
        return app.test_client().post("/users", json=ADA | {"email": f"{number}@example.com"})

    responses = all_at_once(register)

    assert [each.status_code for each in responses] == [201] * 12
    assert len(list_all(database)) == 12


# Changing


def test_a_change_raises_the_version_and_the_time(database):
    user = make_user(database)
    age(database, user, days=1)

    changed = service.update_user(database, user.id, change(name="Countess"))

    assert changed == service.get_user(database, user.id)
    assert changed.version == 2
    assert changed.name == "Countess"
    assert changed.created_at == user.created_at
    assert datetime.now(UTC) - changed.updated_at < timedelta(minutes=1)


def test_a_change_of_nothing_keeps_the_version(database):
    user = make_user(database)

    assert service.update_user(database, user.id, change()) == user


@pytest.mark.parametrize("members", [{"name": "Countess"}, {}])
@pytest.mark.parametrize("versions", [{2}, set(), {0, 7}])
def test_a_change_of_another_version_is_refused(database, members, versions):
    user = make_user(database)

    with pytest.raises(PreconditionFailed):
        service.update_user(database, user.id, change(**members), versions=versions)

    assert service.get_user(database, user.id) == user


@pytest.mark.parametrize("members", [{"name": "Countess"}, {}])
def test_a_user_that_does_not_exist_cannot_be_changed(database, members):
    with pytest.raises(UserNotFound):
        service.update_user(database, NOBODY, change(**members))


def test_the_address_of_another_live_user_cannot_be_taken(database):
    user = make_user(database)
    make_user(database, email="grace@example.com")

    with pytest.raises(EmailTaken):
        service.update_user(database, user.id, change(email="GRACE@example.com", name="Grace"))

    assert service.get_user(database, user.id) == user


def test_of_twelve_changes_to_one_version_one_wins(app, database):
    user = make_user(database)

    def patch(number):
        return app.test_client().patch(
            f"/users/{user.id}",
            json={"name": f"Winner {number}"},
            headers={"If-Match": '"1"', "X-API-Key": API_KEY},
        )

    responses = all_at_once(patch)

    assert sorted(each.status_code for each in responses) == [200] + [412] * 11
    (winner,) = (each for each in responses if each.status_code == 200)
    now = service.get_user(database, user.id)
    assert (now.name, now.version) == (winner.json["name"], 2)


def test_twelve_changes_without_a_condition_all_count(database):
    user = make_user(database)

    all_at_once(lambda number: service.update_user(database, user.id, change(name=f"N{number}")))

    assert service.get_user(database, user.id).version == 13


def test_of_twelve_users_that_want_one_address_one_gets_it(database):
    users = [make_user(database) for _ in range(AT_ONCE)]

    def take(number):
        try:
            return service.update_user(database, users[number].id, change(email="a@b.co"))
        except EmailTaken:
            return None

    winners = [each for each in all_at_once(take) if each]

    assert len(winners) == 1


# Deleting and purging


def test_a_deleted_user_is_found_among_the_deleted_only(database):
    user = make_user(database)

    service.delete_user(database, user.id)

    with pytest.raises(UserNotFound):
        service.get_user(database, user.id)
    with pytest.raises(UserNotFound):
        service.delete_user(database, user.id)
    assert list_all(database) == []
    (deleted,) = list_all(database, Status.DELETED)
    assert deleted.id == user.id
    assert deleted.version == 2


def test_of_twelve_deletions_at_once_one_succeeds(database):
    user = make_user(database)

    def delete(_number):
        try:
            service.delete_user(database, user.id)
        except UserNotFound:
            return False
        return True

    assert sum(all_at_once(delete)) == 1


def test_a_deletion_of_another_version_is_refused(database):
    user = make_user(database)

    with pytest.raises(PreconditionFailed):
        service.delete_user(database, user.id, versions={2})

    assert service.get_user(database, user.id) == user


def test_users_deleted_long_ago_are_purged_and_no_others(database):
    alive, fresh, stale = (make_user(database) for _ in range(3))
    service.delete_user(database, fresh.id)
    service.delete_user(database, stale.id)
    for user in (alive, stale):
        age(database, user, days=31)

    purged = purge(database, days=30)

    assert purged == 1
    assert service.count_users(database) == {"active": 1, "suspended": 0, "deleted": 1}
    assert [each.id for each in list_all(database, Status.DELETED)] == [fresh.id]


def test_what_would_be_purged_is_counted_beforehand(database):
    for _ in range(3):
        service.delete_user(database, make_user(database).id)
    tomorrow = datetime.now(UTC) + timedelta(days=1)

    counted = service.count_purgeable_users(database, before=tomorrow)

    assert counted == sum(service.purge_deleted_users(database, before=tomorrow)) == 3
    assert service.count_purgeable_users(database, before=tomorrow) == 0


def test_purging_goes_on_batch_by_batch_until_nothing_is_left(database, monkeypatch):
    monkeypatch.setattr(service, "PURGE_BATCH", 2)
    for _ in range(5):
        service.delete_user(database, make_user(database).id)

    batches = service.purge_deleted_users(database, before=datetime.now(UTC) + timedelta(days=1))

    assert list(batches) == [2, 2, 1]
    assert service.count_users(database) == {"active": 0, "suspended": 0, "deleted": 0}


def test_the_address_of_a_purged_user_is_free(database):
    user = make_user(database, **ADA)
    service.delete_user(database, user.id)
    purge(database, days=-1)

    assert make_user(database, **ADA).id != user.id


# Listing


def test_a_list_goes_on_behind_the_last_user_of_the_page_before(database):
    users = sorted(make_user(database).id for _ in range(5))

    page = service.list_users(database, status=Status.ACTIVE, email=None, after=users[1], limit=2)

    assert [each.id for each in page] == users[2:4]


def test_statuses_without_users_are_counted_too(database):
    make_user(database)

    assert service.count_users(database) == {"active": 1, "suspended": 0, "deleted": 0}


def test_a_registration_that_an_outage_prevents_is_an_error_in_the_log(services, caplog):
    away = DatabaseManager(NOWHERE).initialize()
    new = UserCreate.load_values(ADA)

    with pytest.raises(Unavailable):
        registration.register_user(away, services.hasher, new)

    (failed,) = [each for each in caplog.records if each.message == "User creation failed"]
    assert (failed.levelname, vars(failed)["error_type"]) == ("ERROR", "OperationalError")
