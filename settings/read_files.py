"""Names the files that the configuration was read from, in messages about missing options."""

from oslo_config import cfg


def describe_read_files(conf: cfg.ConfigOpts) -> str:
    """The files and folders that were read, or what to do if there were none."""
    places = [*(conf.config_file or ()), *(conf.config_dir or ())]
    if not places:
        return "no configuration file was found: name one with --config-file"
    return f"read: {', '.join(places)}"
