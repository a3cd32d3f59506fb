"""What the measurements ran on."""

import os
import platform
import re
import subprocess
from pathlib import Path

from tests.support.services import program


def describe() -> str:
    """One line: cores, memory, versions."""
    version = subprocess.run(
        [program("mariadbd"), "--version"], capture_output=True, text=True, check=True
    ).stdout
    mariadb = re.search(r"Ver ([\d.]+)", version)
    parts = [
        f"{_processor()}, {os.cpu_count()} cores",
        f"{_memory():.0f} GiB of memory",
        f"{platform.system()} {platform.release().split('-')[0]}",
        f"MariaDB {mariadb[1] if mariadb else '?'}",
        f"Python {platform.python_version()}",
    ]
    return ", ".join(parts)


def _memory() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30


def _processor() -> str:
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()
