"""What is started when: the section ``[schedule]``, and ``[schedule_NAME]`` for each entry."""

from typing import Final

from oslo_config import cfg

from settings.section import Section

OPTIONS: Final = [
    cfg.ListOpt(
        "enabled", default=[],
        help="The entries that are started, by name, such as: nightly_archive, weekly_purge. Each has a section "
             "[schedule_NAME] of its own. Without any, nothing is started.",
    ),
    cfg.IntOpt(
        "deadline", default=3600, min=1,
        help="Seconds after its time within which an entry may still be started: when no beat was running, or "
             "the run of its firing before went on. What is later is not made up.",
    ),
]  # fmt: skip

SECTION: Final = Section("schedule", OPTIONS, title="What cellkeeper beat starts, and when.")

# Shown, and off until they are enabled: two ages, so that the shadow tables are a wastebasket with a bottom.
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
            help="When: minute, hour, day of the month, month, day of the week, in the time zone of the option "
                 "timezone of [cellkeeper]. With six fields, the first one is the second.",
        ),
        cfg.StrOpt(
            "command", default=command,
            help="What: a command line as one would type it behind cellkeeper. It is started as with --detach.",
        ),
    ]  # fmt: skip
    title = f"The entry {name} of the schedule; off unless enabled in [schedule]."
    return Section(f"schedule_{name}", options, title)
