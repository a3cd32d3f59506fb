"""A cloud of one API database and four cells, as SQLite files with a nova.conf beside them."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from demo.hosts import AGE, furnish
from demo.instances import GROUPS, block, populate
from demo.rows import Dice, Sheet, url_of
from demo.world import Place
from novadb.migrations.upgrade import API_SCHEMA, MAIN_SCHEMA, Schema

CELL0_UUID: Final = "00000000-0000-0000-0000-000000000000"
CELLS: Final = 4
# One build in so many fails before it has a host.
BUILDS_PER_FAILURE: Final = 6
BLOCKED_CELL: Final = 2
MARKER: Final = ".cellkeeper-demo"
NOVA_CONF: Final = """\
[DEFAULT]
transport_url = none:///

[database]
connection = {own}

[api_database]
connection = {api}

[cellkeeper]
lock_path = {locks}
"""


class ForeignFolder(Exception):
    """The folder holds something that is not the demo's: nothing in it was touched."""


def databases(folder: Path) -> dict[str, tuple[Path, Schema]]:
    """File and schema of each database of the cloud, the API database first."""
    cells = {f"cell{n}": (folder / f"nova_cell{n}.db", MAIN_SCHEMA) for n in range(CELLS)}
    return {"API": (folder / "nova_api.db", API_SCHEMA), **cells}


def build(folder: Path, *, instances: int = 60, seed: int = 1, now: datetime | None = None) -> Path:
    """Make the cloud, in place of one that was made there before.

    :param folder: is made where it is missing
    :param instances: how many each cell has; about half of them are deleted
    :param seed: the same seed and ``now`` give the same rows
    :param now: the moment from which all ages count back, naive and in UTC; without it the present
    :returns: the path of nova.conf
    :raises ForeignFolder: the folder holds something else
    """
    folder = folder.resolve()
    _claim(folder)
    moment = (now or datetime.now(UTC).replace(tzinfo=None)).replace(microsecond=0)
    for name, sheet in _sheets(folder, instances, Dice(seed), moment).items():
        sheet.write(databases(folder)[name][0])
    return _configure(folder)


def _claim(folder: Path) -> None:
    """Mark the folder as the demo's, and remove the databases of an earlier one."""
    if folder.exists() and not (folder.is_dir() and _is_ours(folder)):
        raise ForeignFolder(f"{folder} exists and was not made by the demo: name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).write_text("The demo of cellkeeper made this folder and may overwrite it.\n")
    for file, _ in databases(folder).values():
        for suffix in ("", "-journal", "-wal", "-shm"):
            Path(f"{file}{suffix}").unlink(missing_ok=True)


def _is_ours(folder: Path) -> bool:
    return (folder / MARKER).is_file() or not any(folder.iterdir())


def _sheets(folder: Path, count: int, dice: Dice, now: datetime) -> dict[str, Sheet]:
    sheets = {name: Sheet(schema) for name, (_, schema) in databases(folder).items()}
    api = sheets["API"]
    projects = {dice.hex(): dice.hex() for _ in range(3)}
    uuids = [CELL0_UUID, *(dice.uuid() for _ in range(1, CELLS))]
    _groups(api, projects, dice, now)
    for number, uuid in enumerate(uuids):
        mapping = api.add(
            "cell_mappings",
            uuid=uuid,
            name=f"cell{number}",
            transport_url="none:///",
            database_connection=_url(databases(folder)[f"cell{number}"][0]),
            disabled=False,
            created_at=now - AGE,
        )
        _fill(Place(number, mapping, sheets[f"cell{number}"], api, projects, dice, now), count)
    return sheets


def _groups(api: Sheet, projects: dict[str, str], dice: Dice, now: datetime) -> None:
    project, user = next(iter(projects.items()))
    for name in GROUPS:
        api.add(
            "instance_groups",
            uuid=dice.uuid(),
            name=name,
            project_id=project,
            user_id=user,
            created_at=now - AGE,
        )


def _fill(place: Place, count: int) -> None:
    furnish(place)
    made = populate(place, count if place.number else count // BUILDS_PER_FAILURE)
    if place.number == BLOCKED_CELL:
        block(place, made)


def _configure(folder: Path) -> Path:
    files = {name: file for name, (file, _) in databases(folder).items()}
    text = NOVA_CONF.format(
        own=_url(files["cell1"]), api=_url(files["API"]), locks=folder / "locks"
    )
    path = folder / "nova.conf"
    path.write_text(text.replace("$", "$$"))  # oslo.config would take a dollar sign for a reference
    return path


def _url(file: Path) -> str:
    return url_of(file).render_as_string(hide_password=False)
