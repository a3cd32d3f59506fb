"""The commands of a recorded session of the stock tool: the same exit codes, and the same text to
the letter.
"""

from pathlib import Path
from typing import Final

from tests.support.command import call

RECORDED: Final = Path(__file__).parent / "recorded"


def recorded(name: str) -> str:
    return (RECORDED / f"{name}.txt").read_text()


def test_the_stock_tool_said_the_same(config: Path) -> None:
    archive, purge = (
        "db archive_deleted_rows --verbose --all-cells",
        "db purge --verbose --all-cells",
    )
    ended = call(f"{archive} --until-complete --task-log --before 2026-10-01", config=config)
    assert (ended.code, ended.out, ended.err) == (1, recorded("archive"), "")
    ended = call(f"{archive} --until-complete", config=config)
    assert (ended.code, ended.err) == (1, "")
    ended = call(f"{archive} --until-complete", config=config)
    assert (ended.code, ended.out, ended.err) == (
        0,
        "Archiving...complete\nNothing was archived.\n",
        "",
    )
    ended = call(f"{purge} --before 2026-09-01", config=config)
    assert (ended.code, ended.out, ended.err) == (0, recorded("purge_before"), "")
    ended = call(f"{purge} --all", config=config)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.endswith(recorded("purge_all_cell3"))
    ended = call(f"{purge} --all", config=config)
    assert (ended.code, ended.out, ended.err) == (3, "", "")
