"""``cellkeeper flower``: who may look, what there is to see, and that no secret is in it."""

import re
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from socket import create_server

import pytest

from tests.support.command import call, until
from tests.support.realcloud import RealCloud
from tests.support.services import HOST, MariaDB, Redis
from tests.workers import web
from tests.workers.fleet import CELLS, Site, Worker
from tests.workers.test_no_secret import titles
from tests.workers.web import FlowerPage

ARCHIVE = "db archive_deleted_rows --all-cells --until-complete --max_rows 200"
TASK = re.compile(r'"uuid": "([-0-9a-f]{36})"')


@pytest.fixture(scope="module")
def shared_site(
    loaded_realcloud: RealCloud, broker: Redis, tmp_path_factory: pytest.TempPathFactory
) -> Site:
    """Every slice is over after its first step: each cell has several, however quick it is."""
    return Site(loaded_realcloud, broker, tmp_path_factory.mktemp("site"), slice_seconds=0)


@pytest.fixture(scope="module")
def page(shared_site: Site, shared_worker: Worker) -> Iterator[FlowerPage]:
    """Flower after a run that it has seen."""
    with FlowerPage(shared_site.config) as page:
        until(lambda: "shared@here" in page.page("/api/workers?refresh=1"))
        assert shared_site.call(ARCHIVE).code == 1
        until(lambda: page.page("/api/tasks").count("'complete'") == len(CELLS))
        yield page


@pytest.mark.parametrize(
    ("path", "without", "with_password"),
    [
        ("/", 401, 200),
        ("/tasks", 401, 200),
        ("/broker", 401, 200),
        ("/worker/shared@here", 401, 200),
        ("/api/tasks", 401, 200),
        ("/metrics", 401, 200),
        ("/healthcheck", 200, 200),
        ("/nothing", 404, 404),
    ],
)
def test_only_a_sign_of_life_is_for_everybody(
    page: FlowerPage, path: str, without: int, with_password: int
) -> None:
    login = f"{web.USER}:{web.PASSWORD}"
    assert (
        page.status(path),
        page.status(path, f"{web.USER}:wrong"),
        page.status(path, login),
    ) == (
        without,
        without,
        with_password,
    )


@pytest.mark.parametrize(
    "path",
    [
        "worker/shutdown/shared@here",
        "task/send-task/db.purge",
        "task/apply/db.purge",
        "worker/pool/grow/shared@here",
    ],
)
def test_it_only_shows(page: FlowerPage, path: str) -> None:
    assert page.status(f"/api/{path}", f"{web.USER}:{web.PASSWORD}", "POST") == 403


def test_a_task_says_what_it_works_on(page: FlowerPage, shared_site: Site) -> None:
    shown = page.page("/api/tasks")
    (run,) = shared_site.store.recent()
    assert re.search(rf'"args": "cell2", "kwargs": "run {run}, slice 1, rows so far: 0"', shown)
    assert re.search(
        rf'"args": "cell2", "kwargs": "run {run}, slice 2, rows so far: [1-9][\d,]*"', shown
    )


def test_no_page_holds_a_secret(page: FlowerPage, shared_site: Site) -> None:
    tasks = TASK.findall(page.page("/api/tasks"))
    paths = [
        "/",
        "/broker",
        "/tasks",
        "/worker/shared@here",
        "/api/workers?refresh=1",
        "/metrics",
        "/nothing",
    ]
    paths += [f"{place}/{uuid}" for uuid in tasks for place in ("/task", "/api/task/info")]
    login = f"{web.USER}:{web.PASSWORD}"
    seen = "".join(page.page(path) for path in paths if page.status(path, login) == 200)
    for word in ("redis://:**@", "cell2", "rows so far", "flower_events_total", "broker_url"):
        assert word in seen
    for where in (seen, page.log, titles(page.process.pid)):
        for secret in (shared_site.broker.password, MariaDB.PASSWORD, web.PASSWORD):
            assert secret not in where


def test_it_ends_on_sigterm_as_one_that_was_asked_to(shared_site: Site) -> None:
    with FlowerPage(shared_site.config) as page:
        assert f"Flower serves {page.address}/, log in as {web.USER}\n" in page.log
        page.process.send_signal(signal.SIGTERM)
        assert page.process.wait(web.PATIENCE) == 0


@pytest.mark.parametrize("path", ["", "/flower", "/ops/flower"])
def test_the_address_that_is_printed_answers(shared_site: Site, path: str) -> None:
    with FlowerPage(
        shared_site.config, prefix=path, env={"OS_FLOWER__URL_PREFIX": path and f"{path}/"}
    ) as page:
        *_, address = re.findall(
            rf"^Flower serves (\S+), log in as {web.USER}$", page.log, re.MULTILINE
        )
        assert address.startswith(page.address)
        shown = address.removeprefix(page.address)
        assert (page.status(shown), page.status(shown, f"{web.USER}:{web.PASSWORD}")) == (401, 200)
        assert page.status("", f"{web.USER}:{web.PASSWORD}") == 200, "without a slash at its end"
        assert (page.status("/metrics"), page.status("/metrics", f"{web.USER}:{web.PASSWORD}")) == (
            401,
            200,
        )


def test_without_a_password_everybody_looks_if_told_so(shared_site: Site) -> None:
    with FlowerPage(shared_site.config, "--no-password") as page:
        assert page.status("/tasks") == page.status("/metrics") == 200
        assert f"Flower serves {page.address}/, without a password\n" in page.log


@pytest.mark.parametrize(
    ("variables", "code", "line"),
    [
        ({}, 78, "Flower has no password: set password in section [flower], or give --no-password"),
        (
            {"PASSWORD": "grün"},
            78,
            "Flower compares ASCII only: choose another user or password in section [flower]",
        ),
        (
            {"PASSWORD": "x", "CERT_FILE": "/nonexistent"},
            78,
            "TLS needs both: set cert_file and key_file in section [flower]",
        ),
        (
            {
                "PASSWORD": "x",
                "CERT_FILE": "/nonexistent",
                "KEY_FILE": "/nonexistent",
                "PORT": "{free}",
            },
            255,
            "Flower cannot serve 127.0.0.1:{free}: No such file or directory",
        ),
        (
            {"PASSWORD": "x", "PORT": "{taken}"},
            255,
            "Flower cannot serve 127.0.0.1:{taken}: Address already in use",
        ),
    ],
)
def test_what_keeps_it_from_starting_is_one_line(
    tmp_path: Path, variables: dict[str, str], code: int, line: str
) -> None:
    config = tmp_path / "cellkeeper.conf"
    config.write_text("[celery]\nbroker_url = redis://127.0.0.1:1/0\n")
    with closing(create_server((HOST, 0))) as listener:
        ports = {"taken": listener.getsockname()[1], "free": web.free_port()}
        env = {f"OS_FLOWER__{name}": value.format(**ports) for name, value in variables.items()}
        ended = call("flower", config=config, env=env)
    assert (ended.code, ended.line) == (code, line.format(**ports))


def test_without_a_broker_there_is_nothing_to_show(tmp_path: Path) -> None:
    (tmp_path / "empty.conf").write_text("")
    ended = call("flower --no-password", config=tmp_path / "empty.conf")
    assert ended.code == 78
    assert (
        ended.line
        == f"There is no broker: set broker_url in section [celery] (read: {tmp_path}/empty.conf)"
    )


def test_it_waits_for_a_broker_that_is_away(shared_site: Site, tmp_path: Path) -> None:
    with Redis(password="redis-secret") as broker:
        config = tmp_path / "cellkeeper.conf"
        config.write_text(f"[celery]\nbroker_url = {broker.url()}\n")
        broker.kill()
        with FlowerPage(config) as page:
            until(lambda: "Failed to capture events" in page.log)
            broker.restart()
            until(lambda: "celeryev" in " ".join(broker.execute("PUBSUB CHANNELS *", "KEYS *")))
            assert broker.password not in page.log
