from __future__ import annotations

import asyncio
import inspect
from contextlib import aclosing, closing, suppress

import pytest
from opentelemetry import baggage, trace
from opentelemetry.trace import StatusCode
from sqlalchemy import text

from chassis.errors import AppError, Conflict, InvalidRequest, NotFound, Unavailable
from chassis.storage.copying import copy_rows
from chassis.storage.database import DatabaseManager
from chassis.storage.idempotency import AlreadyAnswered
from chassis.telemetry import statements, tracing
from chassis.telemetry.tracing import baggage_item, span, trace_function
from tests.support.factories import CHEAP_HASHER, make_user
from tests.support.spans import current_name, in_trace, memory
from userservice.users import credentials, registration
from userservice.users.errors import EmailTaken
from userservice.users.schemas import UserCreate

SECRET = "ada@example.com"


# Every test has its spans recorded, in whatever order the tests run.
pytestmark = pytest.mark.usefixtures("spans")


@pytest.fixture
def personal_data():
    tracing.allow_personal_data(allowed=True)
    yield
    tracing.allow_personal_data(allowed=False)


@trace_function()
def plain(value):
    return value, current_name()


@trace_function("work", {"color": "green"})
def named():
    return current_name()


@trace_function("work")
async def coroutine_function():
    before = current_name()
    await asyncio.sleep(0)
    return before, current_name()


@trace_function("work")
def generator_function():
    for _ in range(3):
        yield current_name()
    return current_name()


@trace_function("work")
async def async_generator_function():
    for _ in range(3):
        yield current_name()
        await asyncio.sleep(0)


@trace_function("work")
def echo():
    """Answer whatever is sent or thrown in."""
    answer = None
    while answer != "end":
        try:
            answer = yield (answer, current_name())
        except KeyError as error:
            answer = f"caught {error.args[0]}"
    return "done"


@trace_function("work")
async def async_echo():
    answer = None
    while answer != "end":
        try:
            answer = yield (answer, current_name())
        except KeyError as error:
            answer = f"caught {error.args[0]}"


@trace_function("outer")
def fail(error):
    inner_fail(error)


@trace_function("inner")
def inner_fail(error):
    raise error


@trace_function("outer")
async def async_fail(error):
    inner_fail(error)


@trace_function("outer")
def failing_generator(error):
    yield 1
    inner_fail(error)


@trace_function("outer")
async def failing_async_generator(error):
    yield 1
    inner_fail(error)


async def consume(async_generator):
    return [item async for item in async_generator]


def call_fail(error):
    fail(error)


def call_async_fail(error):
    asyncio.run(async_fail(error))


def call_generator(error):
    list(failing_generator(error))


def call_async_generator(error):
    asyncio.run(consume(failing_async_generator(error)))


def test_a_span_is_named_after_its_function_when_no_name_is_given(spans):
    value, name = plain("x")

    assert value == "x"
    assert name == f"{__name__}.plain"
    assert list(spans()) == [name]


def test_a_span_says_which_function_ran_and_how_it_went(spans):
    assert named() == "work"

    assert dict(spans()["work"].attributes) == {
        "color": "green",
        "function.name": "named",
        "function.module": __name__,
        "function.result": "success",
    }


def test_a_traced_function_is_of_the_same_kind_and_name_as_before():
    assert inspect.iscoroutinefunction(coroutine_function)
    assert inspect.isgeneratorfunction(generator_function)
    assert inspect.isasyncgenfunction(async_generator_function)
    assert plain.__name__ == "plain"


def test_the_span_is_current_in_a_coroutine_before_and_after_it_waits(spans):
    assert asyncio.run(coroutine_function()) == ("work", "work")

    assert len(spans()) == 1


def test_the_span_is_current_in_a_generator_at_every_step(spans):
    generator = generator_function()

    names = [next(generator) for _ in range(3)]
    with pytest.raises(StopIteration) as end:
        next(generator)

    assert names == ["work"] * 3
    assert end.value.value == "work"
    assert spans()["work"].attributes["function.result"] == "success"


def test_the_span_is_current_in_an_async_generator_at_every_step(spans):
    assert asyncio.run(consume(async_generator_function())) == ["work"] * 3

    assert len(spans()) == 1


def test_a_generators_span_is_not_current_where_it_is_consumed(spans):
    with span("consumer"):
        seen = [current_name() for _ in generator_function()]

    assert seen == ["consumer"] * 3
    assert spans()["work"].parent.span_id == spans()["consumer"].context.span_id


def test_an_async_generators_span_is_not_current_where_it_is_consumed():
    async def names():
        with span("consumer"):
            return [current_name() async for _ in async_generator_function()]

    assert asyncio.run(names()) == ["consumer"] * 3


@pytest.mark.usefixtures("spans")
def test_generators_may_be_consumed_in_turns():
    first, second = generator_function(), generator_function()

    names = [next(each) for each in (first, second, first, second)]
    first.close()
    second.close()

    assert names == ["work"] * 4
    assert not trace.get_current_span().is_recording()
    assert len(memory().get_finished_spans()) == 2


def test_a_generator_begins_nothing_before_its_first_step(spans):
    generator = generator_function()

    generator.close()

    assert spans() == {}


def test_a_generator_that_is_left_early_ends_its_span_without_an_error(spans):
    with closing(generator_function()) as generator:
        next(generator)

    assert spans()["work"].status.status_code is StatusCode.UNSET


def test_an_async_generator_that_is_left_early_ends_its_span_without_an_error(spans):
    async def leave_early():
        async with aclosing(async_generator_function()) as generator:
            await anext(generator)

    asyncio.run(leave_early())

    assert spans()["work"].status.status_code is StatusCode.UNSET


def test_a_generator_takes_what_is_sent_and_thrown_in():
    generator = echo()

    answers = [next(generator), generator.send("a"), generator.throw(KeyError("b"))]
    with pytest.raises(StopIteration) as end:
        generator.send("end")

    assert answers == [(None, "work"), ("a", "work"), ("caught b", "work")]
    assert end.value.value == "done"


def test_an_async_generator_takes_what_is_sent_and_thrown_in():
    async def talk():
        generator = async_echo()
        answers = [await anext(generator), await generator.asend("a")]
        answers.append(await generator.athrow(KeyError("b")))
        with suppress(StopAsyncIteration):
            await generator.asend("end")
        return answers

    assert asyncio.run(talk()) == [(None, "work"), ("a", "work"), ("caught b", "work")]


@pytest.mark.parametrize("call", [call_fail, call_async_fail, call_generator, call_async_generator])
def test_an_exception_is_recorded_once_though_several_spans_see_it(spans, call):
    with pytest.raises(ValueError, match=SECRET):
        call(ValueError(SECRET))

    inner, outer = spans()["inner"], spans()["outer"]
    assert [event.name for event in inner.events] == ["exception"]
    assert outer.events == ()
    assert {inner.status.status_code, outer.status.status_code} == {StatusCode.ERROR}


def test_an_unexpected_error_is_named_and_not_quoted(spans):
    with suppress(ValueError):
        fail(ValueError(f"{SECRET} is bad"))

    attributes = spans()["inner"].attributes
    assert attributes["function.result"] == "error"
    assert attributes["error.type"] == "ValueError"
    assert attributes["error.message"] == "ValueError"
    event = spans()["inner"].events[0]
    assert event.attributes["exception.type"] == "ValueError"
    assert "inner_fail" in event.attributes["exception.stacktrace"]
    assert SECRET not in memory().get_finished_spans()[0].to_json()


def test_an_expected_error_says_what_the_caller_is_told(spans):
    with suppress(AppError):
        fail(InvalidRequest("Email is required"))

    attributes = spans()["inner"].attributes
    assert attributes["error.type"] == "InvalidRequest"
    assert attributes["error.message"] == "Email is required"


def test_an_answer_that_is_sent_again_leaves_nothing_of_a_failure(spans):
    with suppress(AlreadyAnswered), span("work"):
        raise AlreadyAnswered("answer")

    ended = spans()["work"]
    assert ended.status.status_code is StatusCode.UNSET
    assert not {"error.type", "error.message"} & set(ended.attributes)
    assert ended.events == ()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidRequest("Email is required"), StatusCode.UNSET),
        (NotFound(), StatusCode.UNSET),
        (Conflict(), StatusCode.UNSET),
        (Unavailable(), StatusCode.ERROR),
        (ValueError(), StatusCode.ERROR),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_refusal_makes_no_span_an_error_and_a_fault_does(spans, error, status):
    with suppress(AppError, ValueError):
        fail(error)

    assert {each.status.status_code for each in spans().values()} == {status}
    assert {each.attributes["error.type"] for each in spans().values()} == {type(error).__name__}


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        ("SELECT 1", ("SELECT", "")),
        ("select id from users where x = 1", ("SELECT", "users")),
        ("SELECT id\nFROM users AS u JOIN jobs ON 1", ("SELECT", "users")),
        ('SELECT EXTRACT(EPOCH FROM now()) FROM "users"', ("SELECT", "users")),
        ("SELECT a FROM public.users FOR UPDATE SKIP LOCKED", ("SELECT", "public.users")),
        ("INSERT INTO users (a) VALUES (1) ON CONFLICT DO UPDATE SET a = 1", ("INSERT", "users")),
        ("UPDATE ONLY users SET a = 1", ("UPDATE", "users")),
        ("DELETE FROM users", ("DELETE", "users")),
        ("WITH due AS (SELECT id FROM a FOR UPDATE) UPDATE b SET x = 1", ("UPDATE", "b")),
        ("WITH x AS (INSERT INTO a VALUES (1)) SELECT 1", ("INSERT", "a")),
        ("WITH due AS (SELECT id FROM a FOR UPDATE) SELECT id FROM due", ("SELECT", "a")),
        ("WITH x AS (SELECT 1) SELECT * FROM x", ("SELECT", "x")),
        ("COPY users (a) FROM STDIN", ("COPY", "users")),
        ("BEGIN", ("BEGIN", "")),
        ("SHOW standard_conforming_strings", ("SHOW", "")),
        ("", ("", "")),
    ],
)
def test_a_statement_is_summarized_by_its_operation_and_table(text, summary):
    assert statements.summarize(text) == summary


@pytest.mark.parametrize("sampled", [True, False])
def test_a_request_that_is_not_recorded_gets_no_spans(spans, sampled):
    with in_trace(sampled=sampled) as caller:
        during = trace.get_current_span().get_span_context()
        results = (plain("x"), list(generator_function()), asyncio.run(coroutine_function()))
        asyncio.run(consume(async_generator_function()))

    assert spans() == {}
    assert results[0] == ("x", "")
    assert during == caller


@pytest.mark.parametrize("sampled", [True, False])
def test_what_comes_from_another_process_is_recorded_when_its_trace_is(spans, sampled):
    with in_trace(sampled=sampled, is_remote=True):
        name = named()

    assert name == ("work" if sampled else "")
    assert list(spans()) == (["work"] if sampled else [])


def test_errors_pass_through_a_trace_that_is_not_recorded(spans):
    with in_trace(sampled=False), pytest.raises(ValueError, match="x"):
        fail(ValueError("x"))

    assert spans() == {}


def test_an_item_of_baggage_holds_for_the_block_alone():
    with baggage_item("user.signup_source", "web"):
        inside = baggage.get_baggage("user.signup_source")

    assert inside == "web"
    assert baggage.get_baggage("user.signup_source") is None


def test_creating_a_user_tells_the_source_to_whom_it_calls(sqlite_url):
    database = DatabaseManager(sqlite_url).initialize()
    new = UserCreate(email=SECRET, name="Ada", source="web")
    seen = []

    registration.register_user(
        database, CHEAP_HASHER, new, in_transaction=lambda *_: seen.append(baggage.get_all())
    )
    database.close()

    assert seen == [{"user.signup_source": "web"}]


def test_the_spans_of_a_new_user_hold_no_address(spans, database):
    user = make_user(database, email=SECRET, source="web")

    credentials.find_credentials(database, SECRET)

    attributes = spans()["create_user_record"].attributes
    assert attributes["user.id"] == str(user.id)
    assert attributes["user.status"] == "active"
    assert attributes["user.signup_source"] == "web"
    assert spans()["user_service.get_user_by_email"].attributes["operation.result"] == "found"
    assert all(SECRET not in each.to_json() for each in memory().get_finished_spans())


@pytest.mark.usefixtures("personal_data")
def test_the_spans_hold_addresses_when_the_operator_wants_them(spans, database):
    make_user(database, email=SECRET)

    credentials.find_credentials(database, SECRET)

    assert spans()["create_user_record"].attributes["user.email"] == SECRET
    found = spans()["user_service.get_user_by_email"].attributes
    assert found["query.parameter.email"] == SECRET


def test_a_taken_address_is_a_conflict_on_the_record(spans, database):
    make_user(database, email=SECRET)
    memory().clear()

    with pytest.raises(EmailTaken):
        make_user(database, email=SECRET)

    record, saved = spans()["create_user_record"], spans()["user_service.save_user"]
    assert record.attributes["conflict.type"] == "duplicate_email"
    assert saved.attributes["error.type"] == "EmailTaken"
    assert SECRET not in record.to_json() + saved.to_json()


def test_statements_get_spans_with_their_text_and_without_their_values(spans, database):
    statements.trace_statements(database.engine)

    with span("request"), database.connection() as connection:
        connection.execute(text("SELECT :value"), {"value": SECRET})

    statement = memory().get_finished_spans()[-2]  # the driver's own are before it
    system = "sqlite" if database.is_sqlite else "postgresql"
    assert statement.kind is trace.SpanKind.CLIENT
    assert statement.parent.span_id == spans()["request"].context.span_id
    assert statement.attributes["db.system.name"] == system
    assert statement.attributes["db.operation.name"] == "SELECT"
    assert statement.attributes["db.query.summary"] == "SELECT"
    url = database.engine.url
    assert statement.name == ("SELECT" if database.is_sqlite else f"SELECT {url.database}")
    assert statement.attributes.get("server.address") == url.host
    assert statement.attributes.get("server.port") == url.port
    assert statement.attributes["db.query.text"].startswith("SELECT ")
    assert SECRET not in statement.to_json()


def test_statements_of_a_transaction_get_spans_too(spans, database):
    statements.trace_statements(database.engine)

    with span("request"), database.transaction() as connection:
        connection.execute(text("SELECT 1"))

    assert "SELECT" in {each.attributes.get("db.operation.name") for each in spans().values()}


def test_rows_that_are_copied_get_a_span_without_their_values(spans, postgresql_url):
    with closing(DatabaseManager(postgresql_url).initialize()) as database:
        statements.trace_statements(database.engine)
        with span("request"), database.transaction() as connection:
            connection.execute(text("CREATE TEMP TABLE copied (value text) ON COMMIT DROP"))
            copy_rows(connection, "copied", ["value"], [[SECRET]], {})
            stored = connection.scalar(text("SELECT value FROM copied"))

    assert stored == SECRET
    assert spans()["COPY copied"].attributes["db.query.text"] == "COPY copied (value) FROM STDIN"
    assert SECRET not in spans()["COPY copied"].to_json()


def test_a_statement_that_fails_says_so_on_its_span(spans, database):
    statements.trace_statements(database.engine)
    make_user(database, email=SECRET)
    memory().clear()

    with suppress(EmailTaken), span("request"):
        make_user(database, email=SECRET)

    insert = spans()["INSERT users"]
    assert insert.attributes["db.collection.name"] == "users"
    assert insert.attributes["db.query.summary"] == "INSERT users"
    code = "2067" if database.is_sqlite else "23505"
    assert insert.attributes["db.response.status_code"] == code
    assert insert.status.status_code is StatusCode.ERROR
    assert insert.attributes["error.type"] in {"IntegrityError", "UniqueViolation"}
    assert SECRET not in insert.to_json()


def test_statements_outside_of_a_recorded_trace_get_no_spans(spans, database):
    statements.trace_statements(database.engine)

    with in_trace(sampled=False):
        database.ping()

    assert spans() == {}
