"""``cell_v2 verify_instance``: say which cell an instance is mapped to."""

from cli.cell_v2.configured import ARCHIVE_COMMAND, ConfiguredCloud
from cli.output import put, say
from jobs.cell_v2.verify_instance import Exit, Verified, verify_mapping


def verify_instance(uuid: str, *, quiet: bool) -> int:
    """Look for the instance, and print what was found in the words of the stock tool."""
    cloud = ConfiguredCloud.load()
    verified = verify_mapping(cloud.api, cloud.defaults, uuid)
    if not quiet:
        for line in _stock_lines(verified, uuid):
            put(line)
        if verified.exit is Exit.ARCHIVED and not verified.in_shadow:
            say("It is not in the shadow tables either: it was purged, or was never in its cell")
    return verified.exit


def _stock_lines(verified: Verified, uuid: str) -> list[str]:
    match verified.exit:
        case Exit.NOT_MAPPED:
            return [
                f"Instance {uuid} is not mapped to a cell (upgrade is incomplete) or instance does "
                "not exist"
            ]
        case Exit.WITHOUT_CELL:
            return [f"Instance {uuid} is not mapped to a cell"]
        case Exit.DELETED:
            return [
                f"The instance with uuid {uuid} has been deleted.",
                f"Execute `{ARCHIVE_COMMAND}` command to archive this deleted instance and remove "
                "its instance_mapping.",
            ]
        case Exit.ARCHIVED:
            return [
                f"The instance with uuid {uuid} has been archived.",
                "However its instance_mapping remains.",
            ]
    assert verified.cell is not None
    return [f"Instance {uuid} is in cell: {verified.cell.name} ({verified.cell.uuid})"]
