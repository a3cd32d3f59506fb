"""Each signal, moved by the real thing."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler

import pytest

from novadb.engine import Database
from settings.databases import Timeouts
from settings.throttle import ThrottleSettings
from tests.support.listener import Listener, respond
from tests.support.replica import Primary, Replica, replicated
from tests.support.services import HOST, MariaDB
from tests.support.waiting import wait_until
from throttle.readings import Answer, Reading, ServerState
from throttle.server_watch import ServerWatch

SCHEMA = "throttled"


@pytest.fixture
def schema(mariadb: MariaDB) -> Iterator[MariaDB]:
    """A server with a database in which a query can be asked."""
    mariadb.revive()
    mariadb.drop(SCHEMA)
    mariadb.create(SCHEMA)
    yield mariadb
    mariadb.drop(SCHEMA)


def database_on(server: MariaDB, name: str = SCHEMA) -> Database:
    return Database(server.url(name), "cell1", Timeouts())


def look_once(
    server: MariaDB, settings: ThrottleSettings, before: ServerState | None = None
) -> ServerState:
    with ServerWatch(database_on(server), settings) as watch:
        return watch.look(before)


def only_reading(state: ServerState) -> Reading:
    (reading,) = state.readings
    return reading


@contextmanager
def running_threads(server: MariaDB, number: int) -> Iterator[None]:
    """Threads that run a statement until the end."""
    links = [server.connect() for _ in range(number)]
    for link in links:
        link._execute_command(3, "DO SLEEP(600)")  # without waiting for its end
    try:
        yield
    finally:
        for link in links:
            server.execute(f"KILL {link.thread_id()}")
            link.close()


def test_running_threads_pause_the_work_and_let_it_go_on(schema: MariaDB) -> None:
    settings = ThrottleSettings(max_threads_running=60)
    assert look_once(schema, settings).verdict is None
    with running_threads(schema, 60):
        wait_until(lambda: look_once(schema, settings).verdict is not None)
        paused = look_once(schema, settings)
        assert paused.verdict
        assert paused.verdict.signal == "threads_running"
        assert paused.verdict.words.endswith("threads running")
    wait_until(lambda: look_once(schema, settings).verdict is None)
    calm = look_once(schema, settings, paused)
    assert calm.verdict, "one calm look is not enough"
    assert look_once(schema, settings, calm).verdict is None


def test_far_too_many_running_threads_are_critical(schema: MariaDB) -> None:
    settings = ThrottleSettings(max_threads_running=5, critical_threads_running=20)
    with running_threads(schema, 20):
        wait_until(lambda: look_once(schema, settings).verdict is not None)
        verdict = look_once(schema, settings).verdict
    assert verdict
    assert verdict.answer is Answer.CRITICAL


def test_a_server_that_is_no_galera_node_has_no_signals_of_one(schema: MariaDB) -> None:
    settings = ThrottleSettings(max_threads_running=0)
    assert look_once(schema, settings).readings == []


def test_a_snapshot_that_keeps_old_row_versions_pauses_the_work(schema: MariaDB) -> None:
    schema.execute("CREATE TABLE versions (id INT PRIMARY KEY, number INT)", SCHEMA)
    schema.execute("INSERT INTO versions SELECT seq, 0 FROM seq_1_to_10", SCHEMA)
    settings = ThrottleSettings(max_threads_running=0, max_history_list=20)

    def length() -> float:
        return only_reading(look_once(schema, settings)).value or 0.0

    wait_until(lambda: length() < 20)
    with closing(schema.connect(SCHEMA, autocommit=False)) as snapshot, snapshot.cursor() as cursor:
        cursor.execute("SELECT * FROM versions")
        for number in range(100):
            schema.execute(f"UPDATE versions SET number = {number}", SCHEMA)
        wait_until(lambda: length() >= 20)
        assert look_once(schema, settings).verdict
    wait_until(lambda: look_once(schema, settings).verdict is None)


def test_a_query_of_the_operators_pauses_the_work(schema: MariaDB) -> None:
    schema.execute("CREATE TABLE pressure (value DECIMAL(4,1))", SCHEMA)
    schema.execute("INSERT INTO pressure VALUES (2.5)", SCHEMA)
    settings = ThrottleSettings(
        max_threads_running=0, query="SELECT value FROM pressure", max_query=3
    )
    assert only_reading(look_once(schema, settings)).words == "the query returns 2.5"
    schema.execute("UPDATE pressure SET value = 3", SCHEMA)
    assert look_once(schema, settings).verdict


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT value FROM nowhere", "Table 'throttled.nowhere' doesn't exist (error 1146)"),
        ("SELECT 'much'", "the query returns no number: option query of section [throttle]"),
        ("SELECT NULL", "the query returns no number: option query of section [throttle]"),
    ],
)
def test_a_query_that_cannot_be_asked_is_unknown_and_stops_nothing(
    schema: MariaDB, query: str, words: str
) -> None:
    state = look_once(schema, ThrottleSettings(max_threads_running=0, query=query, max_query=3))
    assert only_reading(state) == Reading("query", Answer.UNKNOWN, words)
    assert state.verdict is None


def test_a_query_may_have_colons(schema: MariaDB) -> None:
    settings = ThrottleSettings(
        max_threads_running=0, query="SELECT HOUR('11:05:00')", max_query=12
    )
    assert only_reading(look_once(schema, settings)).value == 11


def test_what_a_user_may_not_ask_names_the_grant(schema: MariaDB) -> None:
    schema.execute("CREATE OR REPLACE USER lowly IDENTIFIED BY 'lowly'")
    schema.execute(f"GRANT SELECT ON {SCHEMA}.* TO lowly")
    lowly = Database(schema.url(SCHEMA, "lowly", "lowly"), "cell1", Timeouts())
    with ServerWatch(lowly, ThrottleSettings(max_threads_running=0, max_lag=1)) as watch:
        reading = only_reading(watch.look(None))
    schema.execute("DROP USER lowly")
    assert reading.answer is Answer.UNKNOWN
    assert "GRANT REPLICATION MASTER ADMIN" in reading.words


def test_a_server_that_does_not_answer_is_unknown_and_asked_again(schema: MariaDB) -> None:
    with ServerWatch(database_on(schema), ThrottleSettings(max_threads_running=50)) as watch:
        assert watch.look(None).readings[0].answer is Answer.GO
        schema.kill()
        away = watch.look(None)
        schema.restart()
        back = watch.look(away)
    assert away.readings[0].answer is Answer.UNKNOWN
    assert back.readings[0].answer is Answer.GO


class Freno(Listener):
    """An HTTP check whose answer a test sets.

    :ivar asked: the paths of all requests
    """

    def __init__(self) -> None:
        super().__init__()
        self.code = 200
        self.asked: list[str] = []
        self.check = f"{self.url}/check/cellkeeper/mysql"

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        assert request.command == "HEAD"
        self.asked.append(request.path)
        respond(request, self.code, b"")


@pytest.fixture
def freno() -> Iterator[Freno]:
    with Freno() as check:
        yield check


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        (200, Answer.GO),
        (429, Answer.STOP),
        (417, Answer.STOP),
        (404, Answer.UNKNOWN),
        (500, Answer.UNKNOWN),
    ],
)
def test_an_http_check_answers_as_freno_does(
    schema: MariaDB, freno: Freno, code: int, answer: Answer
) -> None:
    freno.code = code
    settings = ThrottleSettings(max_threads_running=0, http=f"{freno.check}/{{host}}/{{port}}")
    reading = only_reading(look_once(schema, settings))
    assert (reading.answer, reading.words) == (answer, f"the HTTP check answered {code}")
    assert freno.asked == [f"/check/cellkeeper/mysql/{HOST}/{schema.port}"]


def test_an_http_check_that_nobody_answers_is_unknown(schema: MariaDB) -> None:
    with Freno() as gone:
        pass
    reading = only_reading(
        look_once(schema, ThrottleSettings(max_threads_running=0, http=gone.check))
    )
    assert reading.answer is Answer.UNKNOWN


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Primary, Replica]]:
    with replicated() as (primary, replica):
        primary.create(SCHEMA)
        yield primary, replica


LAG = ThrottleSettings(max_threads_running=0, max_lag=1)


def settled(look: Callable[[ServerState | None], ServerState]) -> Callable[[], ServerState]:
    """Looks that know each other."""
    states: list[ServerState | None] = [None]

    def look_again() -> ServerState:
        state = look(states[-1])
        states.append(state)
        return state

    return look_again


@pytest.mark.parametrize(
    "are_named", [True, False], ids=["named in the configuration", "found by asking the primary"]
)
def test_a_replica_that_lags_pauses_the_work(
    servers: tuple[Primary, Replica], are_named: bool
) -> None:
    primary, replica = servers
    replicas = [database_on(replica)] if are_named else []
    with ServerWatch(database_on(primary), LAG, replicas) as watch:
        look = settled(watch.look)
        wait_until(lambda: [reading.answer for reading in look().readings] == [Answer.GO])
        with closing(replica.connect(SCHEMA)) as link, link.cursor() as cursor:
            cursor.execute("FLUSH TABLES WITH READ LOCK")  # what has arrived is not applied
            primary.execute("CREATE OR REPLACE TABLE changes (id INT)", SCHEMA)
            wait_until(lambda: look().verdict is not None)
            assert look().verdict.source == f"{HOST}:{replica.port}"  # type: ignore[union-attr]
        wait_until(lambda: look().verdict is None)


def test_a_replica_that_does_not_replicate_pauses_the_work(
    servers: tuple[Primary, Replica],
) -> None:
    primary, replica = servers
    with ServerWatch(database_on(primary), LAG, [database_on(replica)]) as watch:
        look = settled(watch.look)
        replica.execute("STOP SLAVE")
        verdict = look().verdict
        replica.execute("START SLAVE")
        assert verdict
        assert verdict.words == "it does not replicate"
        wait_until(lambda: look().verdict is None)


def test_a_replica_that_was_away_is_asked_again(servers: tuple[Primary, Replica]) -> None:
    primary, replica = servers
    with ServerWatch(database_on(primary), LAG, [database_on(replica)]) as watch:
        look = settled(watch.look)
        wait_until(lambda: look().verdict is None)
        replica.kill()
        assert look().readings[0].answer is Answer.UNKNOWN
        replica.restart()
        wait_until(lambda: [reading.answer for reading in look().readings] == [Answer.GO])


def test_the_lag_by_a_heartbeat_table(servers: tuple[Primary, Replica]) -> None:
    primary, replica = servers
    primary.execute("CREATE OR REPLACE TABLE heartbeat (at TIMESTAMP(6))", SCHEMA)
    primary.execute("INSERT INTO heartbeat VALUES (NOW(6) - INTERVAL 30 SECOND)", SCHEMA)
    wait_until(lambda: bool(replica.execute("SHOW TABLES LIKE 'heartbeat'", SCHEMA)))
    query = "SELECT TIMESTAMPDIFF(MICROSECOND, MAX(at), NOW(6)) / 1000000 FROM heartbeat"
    settings = ThrottleSettings(max_threads_running=0, max_lag=10, lag_query=query)
    with ServerWatch(database_on(primary), settings, [database_on(replica)]) as watch:
        look = settled(watch.look)
        wait_until(lambda: look().verdict is not None)
        primary.execute("UPDATE heartbeat SET at = NOW(6)", SCHEMA)
        wait_until(lambda: look().verdict is None)


def test_a_primary_without_a_known_replica_is_unknown(schema: MariaDB) -> None:
    with ServerWatch(database_on(schema), LAG) as watch:
        state = watch.look(watch.look(None))
    assert (
        only_reading(state).words
        == "no replica is known: name one by option replica of section [throttle]"
    )
    assert state.verdict is None


def test_a_replica_that_is_away_is_unknown(schema: MariaDB) -> None:
    away = Database("mysql://nova:pw@127.0.0.1:1/nova", "the replica of cell1", Timeouts())
    with ServerWatch(database_on(schema), LAG, [away]) as watch:
        state = watch.look(None)
    assert only_reading(state).answer is Answer.UNKNOWN
    assert state.verdict is None
