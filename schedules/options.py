"""The sections of the configuration that say what is started when."""

from typing import Final

from oslo_config import cfg

GROUP: Final = cfg.OptGroup("schedule", "What cellkeeper beat starts, and when.")

OPTIONS: Final = [
    cfg.ListOpt(
        "enabled", default=[],
        help="The entries that are started, by name, such as: nightly_archive, weekly_purge. Each has a section "
             "[schedule_NAME] of its own. Without any, nothing is started.",
    ),
    cfg.IntOpt(
        "deadline", default=3600, min=1,
        help="Seconds after its time within which an entry may still be started: when no beat was running, or "
             "another run held the databases. What is later is not made up.",
    ),
]  # fmt: skip

# Shown, and off until they are enabled: two ages, so that the shadow tables are a wastebasket with a bottom.
DEFAULTS: Final = {
    "nightly_archive": (
        "0 2 * * *",
        "db archive_deleted_rows --all-cells --until-complete --before 90d --until 06:00",
    ),
    "weekly_purge": ("0 7 * * 6", "db purge --all-cells --before 180d --until 12:00"),
}


def register(conf: cfg.ConfigOpts) -> None:
    """Make the options known, those of the entries that are enabled or come along included."""
    conf.register_group(GROUP)
    conf.register_opts(OPTIONS, group=GROUP)
    for name in DEFAULTS:
        register_entry(conf, name)


def register_entry(conf: cfg.ConfigOpts, name: str) -> None:
    """Make the section of one entry known."""
    group = entry_group(name)
    conf.register_group(group)
    conf.register_opts(entry_options(name), group=group)


def entry_group(name: str) -> cfg.OptGroup:
    """The section of an entry."""
    return cfg.OptGroup(f"schedule_{name}", f"The entry {name} of the schedule; off unless enabled in [schedule].")


def entry_options(name: str) -> list[cfg.StrOpt]:
    """The options of an entry."""
    cron, command = DEFAULTS.get(name, (None, None))
    return [
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
