"""Which files the configuration was read from, for messages about what is missing in it."""

from oslo_config import cfg


def describe_read_files(conf: cfg.ConfigOpts) -> str:
    """The files and folders that were read, or what to do where none was there."""
    places = [*(conf.config_file or ()), *(conf.config_dir or ())]
    if not places:
        return "no configuration file was found: name one with --config-file"
    return f"read: {', '.join(places)}"
