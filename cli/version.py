"""The version of the program."""

from importlib.metadata import version as installed_version


def version() -> str:
    """The version that is installed."""
    return installed_version("cellkeeper")
