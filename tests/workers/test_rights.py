"""What a Redis must allow its user: the rule of the documents suffices; what lacks is named before
anything begins.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import call_here
from tests.support.services import HOST, Redis
from tests.workers.fleet import Site
from tests.workers.sqlite_cloud import SqliteCloud
from tests.workers.web import FlowerPage
from workers.redis_needs import OF_BROKER, OF_STORE, RULE

USER, PASSWORD = "cellkeeper", "redis-secret"
HOLD = ("runs hold --reason test --for 1h", "runs release")
ARCHIVE = "db archive_deleted_rows --all-cells --until-complete"
SCHEDULE = """
[schedule]
enabled = often
[schedule_often]
cron = */5 * * * * *
command = db purge --all-cells --all
"""
# What no transaction can hold: itself, and what a connection needs before anything else.
UNTRIED = "+@connection +@transaction +punsubscribe"
TRIED = {line.split()[0].lower() for _, _, lines in (*OF_STORE, *OF_BROKER) for line in lines}
PATTERNS = {pattern for pattern, _, _ in (*OF_STORE, *OF_BROKER)}
LEAST = " ".join(["-@all", UNTRIED, *sorted(PATTERNS), *(f"+{name}" for name in sorted(TRIED))])


@pytest.fixture
def restricted(broker: Redis, tmp_path: Path) -> Iterator[Site]:
    """The cloud with a Redis in which it is a user of its own, who may do nothing yet."""
    broker.execute("FLUSHALL", f"ACL SETUSER {USER} reset", "ACL LOG RESET")
    site = Site(SqliteCloud(), broker, tmp_path)
    url = f"redis://{USER}:{PASSWORD}@{HOST}:{broker.port}/0"
    site.config.write_text(site.config.read_text().replace(broker.url(), url))
    yield site
    broker.execute(f"ACL DELUSER {USER}")


def allow(site: Site, rule: str) -> None:
    """Let the user do what a rule says, and nothing else."""
    assert site.broker.execute(f"ACL SETUSER {USER} reset on >{PASSWORD} {rule}") == ["+OK"]


@pytest.mark.parametrize("rule", [RULE, LEAST], ids=["documented", "tried"])
def test_a_rule_suffices_for_worker_beat_flower_and_commands(restricted: Site, rule: str) -> None:
    """That of the documents; and one that has nothing but what is tried at a start, so that all
    that is needed is.
    """
    site = restricted
    allow(site, rule)
    site.config.write_text(site.config.read_text() + SCHEDULE)
    with site.worker() as worker, FlowerPage(site.config) as page:
        worker.serve()
        assert site.call(ARCHIVE).code == 1
        with site.start("beat"):
            site.until(lambda: any(run.startswith("often-") for run in site.store.recent()))
            (run, *_) = [run for run in site.store.recent() if run.startswith("often-")]
            assert site.until_ended(run) in (0, 3)
            for line in (
                "runs list",
                f"runs show {run}",
                "runs history",
                "schedule list",
                "metrics",
                *HOLD,
            ):
                ended = site.call(line)
                assert (ended.code, ended.err) == (0, "")
            assert site.call("worker --name w@here --ping").code == 0
            findings = {(one["where"], one["what"]): one["verdict"] for one in check(site)}
            assert findings["Redis", "answers"] == findings["Redis", "writes"] == "ok"
        site.until(lambda: "db.archive_deleted_rows" in page.page("/metrics"))
        worker.terminate()
        assert worker.process.wait(60) == 0
    assert site.broker.execute("ACL LOG") == ["*0"]
    assert "NOPERM" not in worker.log + site.log


def check(site: Site) -> list[dict[str, str]]:
    """What ``check`` finds."""
    findings: list[dict[str, str]] = site.call("check -f json").document["findings"]
    return findings


ALL_KEYS = "~cellkeeper* ~cell.* ~*celery* ~_kombu.* ~unacked*"
NARROW = {
    "no channels": (RULE.replace("&*", "resetchannels"), "&*"),
    "other channels": (RULE.replace("&*", "resetchannels &other*"), "&*"),
    "other keys": ("~other* &* +@all -@admin -@dangerous +info", ALL_KEYS),
    "keys of the runs alone": (
        f"~cellkeeper* {RULE[RULE.index('&') :]}",
        ALL_KEYS.removeprefix("~cellkeeper* "),
    ),
    "keys to read alone": (RULE.replace("~cellkeeper*", "%R~cellkeeper*"), "~cellkeeper*"),
    "no scripts": (f"{RULE} -@scripting", "+script|load +evalsha"),
    "no queues": (f"{RULE} -brpop", "+brpop"),
    "no transactions": (f"{RULE} -@transaction", "+multi"),
    "no word of itself": (f"{RULE} -info", "+info"),
}


@pytest.mark.parametrize("kind", NARROW)
def test_what_a_narrow_rule_lacks_is_named_by_check(restricted: Site, kind: str) -> None:
    rule, lacking = NARROW[kind]
    allow(restricted, rule)
    findings = call_here("check -f json", config=restricted.config).document["findings"]
    lines = {
        grant_line(found["detail"]) for found in findings if "allows the user" in found["detail"]
    }
    assert lines == {line_of(lacking)}


def test_whoever_is_allowed_too_little_ends_with_a_line_and_a_code(restricted: Site) -> None:
    site = restricted
    rule, lacking = NARROW["no channels"]
    allow(site, rule)
    site.config.write_text(f"{site.config.read_text()}{SCHEDULE}[flower]\npassword = tulip\n")
    for command in ("worker", "beat", "flower", "worker --ping", ARCHIVE):
        ended = site.call(command)
        assert (grant_line(ended.line), ended.out) == (line_of(lacking), "")
        assert ended.code == (255 if command == ARCHIVE else 78)


def grant_line(text: str) -> str:
    """The part of a message that says what to grant."""
    return text.partition("; all that is needed")[0]


def line_of(lacking: str) -> str:
    """What is said of it."""
    return (
        f"The Redis of section [celery] allows the user {USER} too little: ACL SETUSER {USER} "
        f"{lacking}"
    )
