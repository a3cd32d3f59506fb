"""Section ``[schedule]``, and ``[schedule_NAME]`` for each entry: what is started when."""

from typing import Final

from oslo_config import cfg

from settings.section import Section

OPTIONS: Final = [
    cfg.ListOpt(
        "enabled", default=[],
        help="The names of the entries that are started, such as: nightly_archive, weekly_purge. "
             "Each has its own section [schedule_NAME]. Without any, nothing is started.",
    ),
    cfg.IntOpt(
        "deadline", default=3600, min=1,
        help="Seconds after its time within which an entry may still be started, because no beat "
             "was running or its previous run had not ended. Later than that, the firing is "
             "skipped.",
    ),
]  # fmt: skip

SECTION: Final = Section("schedule", OPTIONS, title="What cellkeeper beat starts, and when.")

# Off until they are enabled. The purge keeps rows longer than the archive, so that what was
# archived can be restored for another 90 days.
DEFAULTS: Final = {
    "nightly_archive": (
        "0 2 * * *",
        "db archive_deleted_rows --all-cells --until-complete --before 90d --until 06:00",
    ),
    "weekly_purge": ("0 7 * * 6", "db purge --all-cells --before 180d --until 12:00"),
}


def entry_section(name: str) -> Section:
    """The section of an entry."""
    cron, command = DEFAULTS.get(name, (None, None))
    options = [
        cfg.StrOpt(
            "cron", default=cron,
            help="When: minute, hour, day of the month, month, day of the week, in the time zone "
                 "of option timezone in section [cellkeeper]. The first of six fields is the "
                 "second.",
        ),
        cfg.StrOpt(
            "command", default=command,
            help="What: a command line without the word cellkeeper. It is started as with "
                 "--detach.",
        ),
    ]  # fmt: skip
    title = f"The entry {name} of the schedule; off unless enabled in [schedule]."
    return Section(f"schedule_{name}", options, title)
