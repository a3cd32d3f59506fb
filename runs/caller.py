"""Who starts a run."""

import getpass
import os
import socket


def caller() -> str:
    """The user of this process, for records and the log: the number of one who has no name, as in
    some containers.
    """
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the second one from Python 3.13 on
        return str(os.getuid())


def caller_at_host() -> str:
    """The user of this process, and the host that it runs on."""
    return f"{caller()}@{socket.gethostname()}"
