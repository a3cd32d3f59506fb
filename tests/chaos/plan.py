"""What happens in a round of the campaign, by its number and the seed: a plan is the same each
time.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeVar

from tests.support import unmigrated
from tests.support.realcloud import RealCloud
from tests.workers.test_both_engines import new_hosts, state, unmapped

T = TypeVar("T")

ARCHIVE: Final = "db archive_deleted_rows --all-cells --until-complete"
# Of some hundred transactions, with pauses in which the next process dies.
SLOWLY: Final = f"{ARCHIVE} --max_rows 20 --sleep 0.2"


class Servers(StrEnum):
    """Who carries the messages and who keeps the runs."""

    NONE = "the command's own process"
    REDIS = "one Redis"
    TWO_REDIS = "a Redis for messages, one for the runs"
    RABBITMQ = "a RabbitMQ for messages, a Redis for the runs"


class Victim(StrEnum):
    """What is killed. All but the emptied ones come back with what they had."""

    CHILD = "a child that works"
    WORKER = "a worker with its children"
    MAIN_PROCESS = "a worker's main process alone"
    COMMAND = "the command"
    BEAT = "the beat"
    STORE = "the Redis of the runs"
    EMPTIED_STORE = "the Redis of the runs, which loses all"
    BROKER = "the broker"
    EMPTIED_BROKER = "the Redis of the messages, which loses all"
    DATABASE = "MariaDB"


@dataclass(frozen=True)
class Work:
    """A command that is harmed.

    :ivar line: with the UUIDs of cells by their names
    :ivar prepare: what is done to the cloud before
    :ivar codes: that the documents name for it
    :ivar undisturbed: the command lines that do all that is to be done, where nothing is killed
    :ivar look: what these leave
    :ivar is_archive: whether it moves rows into shadow tables
    :ivar purges: whether it removes them from there
    :ivar scheduled: whether a beat orders it
    """

    line: str
    prepare: Callable[[RealCloud], None]
    codes: frozenset[int]
    undisturbed: tuple[str, ...]
    look: Callable[[RealCloud], Mapping[Any, Any]] = state
    is_archive: bool = False
    purges: bool = False
    scheduled: bool = False


def as_it_is(_: RealCloud) -> None:
    """Nothing to prepare."""


def archive(line: str, *undisturbed: str, purges: bool = False, scheduled: bool = False) -> Work:
    """An archive: nothing to do, something done, the API database away, or any error."""
    return Work(
        line,
        as_it_is,
        frozenset({0, 1, 3, 255}),
        undisturbed,
        is_archive=True,
        purges=purges,
        scheduled=scheduled,
    )


MAP: Final = "cell_v2 map_instances --cell_uuid {cell1}"
MIGRATE: Final = "db online_data_migrations --all-cells"
HEAL: Final = "placement heal_allocations --skip-port-allocations"
WORKS: Final[Mapping[str, Work]] = {
    "archive": archive(SLOWLY, ARCHIVE),
    "discover_hosts": Work(
        "cell_v2 discover_hosts", new_hosts, frozenset({0, 1, 255}), ("cell_v2 discover_hosts",)
    ),
    "archive and purge": archive(
        f"{SLOWLY} --purge", ARCHIVE, "db purge --all --all-cells", purges=True
    ),
    "map_instances": Work(MAP, unmapped, frozenset({0, 1, 255}), (MAP,)),
    "scheduled archive": archive(SLOWLY, ARCHIVE, scheduled=True),
    "heal_allocations": Work(HEAL, as_it_is, frozenset({*range(6), 255}), (HEAL,)),
    "online_data_migrations": Work(
        MIGRATE, unmigrated.put_back, frozenset({0, 1, 2, 255}), (MIGRATE,), unmigrated.look
    ),
}
# Which of these in turn; with as many kinds of servers that have no divisor in common, each meets
# each.
SERVERS: Final = (
    Servers.REDIS,
    Servers.TWO_REDIS,
    Servers.NONE,
    Servers.RABBITMQ,
    Servers.TWO_REDIS,
)

# How often each is chosen, compared with the others.
OF_WORKERS: Final = {Victim.CHILD: 8, Victim.WORKER: 4, Victim.MAIN_PROCESS: 3}
OF_ALL: Final = {Victim.COMMAND: 4, Victim.DATABASE: 2}
OF_SERVERS: Final[Mapping[Servers, Mapping[Victim, int]]] = {
    Servers.NONE: {},
    Servers.REDIS: {**OF_WORKERS, Victim.STORE: 4, Victim.EMPTIED_STORE: 1},
    Servers.TWO_REDIS: {
        **OF_WORKERS,
        Victim.STORE: 3,
        Victim.EMPTIED_STORE: 1,
        Victim.BROKER: 3,
        Victim.EMPTIED_BROKER: 2,
    },
    Servers.RABBITMQ: {**OF_WORKERS, Victim.STORE: 3, Victim.EMPTIED_STORE: 1},
}


@dataclass(frozen=True)
class Plan:
    """A round.

    :ivar dice: for what the plan leaves open: which of several processes dies, and when
    """

    servers: Servers
    name: str
    victims: tuple[Victim, ...]
    dice: random.Random = field(compare=False)

    @property
    def work(self) -> Work:
        """What is harmed."""
        return WORKS[self.name]

    def __str__(self) -> str:
        return f"{self.name} with {self.servers}"


def plan_of(seed: int, number: int, kills: int) -> Plan:
    """The plan of a round.

    :param kills: how many there are
    """
    dice = random.Random(f"{seed} {number}")
    name = _of_turn(number, list(WORKS))
    servers = _of_turn(number, SERVERS)
    if WORKS[name].scheduled and servers is Servers.NONE:
        servers = Servers.REDIS  # a beat orders runs of workers
    weights = {**OF_ALL, **OF_SERVERS[servers]}
    if WORKS[name].scheduled:
        weights[Victim.BEAT] = weights.pop(Victim.COMMAND)
    victims = dice.choices(list(weights), list(weights.values()), k=kills)
    if servers is Servers.RABBITMQ:
        victims[dice.randrange(kills)] = Victim.BROKER  # one: it needs many seconds to come back
    return Plan(servers, name, tuple(victims), dice)


def _of_turn(number: int, values: Sequence[T]) -> T:
    """The value whose turn it is."""
    return values[number % len(values)]
