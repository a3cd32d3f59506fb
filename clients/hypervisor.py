"""The libvirt of the compute hosts: which machine types their domains have, and which their QEMU knows.

Each host is asked by a process of its own (``clients.probe``): a call into libvirt may wait for ever, for a firewall, a
name server, a lock of the daemon, and unlike a thread a process can be ended.
"""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import quote

from clients import activity

HOST_FIELD: Final = "{host}"
PROBE_GRACE: Final = 5  # seconds after which a probe ends by itself, counted from the end of its time
PROBE_COMMAND: Final = (sys.executable, "-P", "-m", "clients.probe")


class HypervisorProblem(Exception):
    """A hypervisor cannot be asked. The text says why, or what to do; it holds no secret."""


@dataclass(frozen=True)
class DomainsAnswer:
    """What a host told of its domains.

    :ivar machine_types: by the UUID of the domain; a domain that the host does not have is missing
    :ivar problem: why it did not tell all
    """

    machine_types: Mapping[str, str] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True)
class Hypervisors:
    """The hypervisors of a cloud.

    :ivar template: the URI of a host's libvirt, with ``{host}`` where the name goes
    :ivar timeout: seconds within which a host must have told everything
    :ivar concurrency: hosts asked at the same time
    """

    template: str
    timeout: float = 10.0
    concurrency: int = 16

    def machine_types(self, wanted: Mapping[str, Sequence[str]]) -> Generator[tuple[str, DomainsAnswer]]:
        """Ask hosts for the machine types of domains, several hosts at a time.

        :param wanted: the UUIDs of the domains by host
        :returns: host by host, in the order of ``wanted``. What went wrong is in the answer; nothing is raised
        """
        pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="hypervisor")
        try:
            yield from zip(wanted, pool.map(self._domains, wanted, wanted.values()), strict=True)
        finally:
            pool.shutdown(cancel_futures=True)

    def _domains(self, host: str, uuids: Sequence[str]) -> DomainsAnswer:
        told, problem = self._ask(host, {"uuids": list(uuids)})
        return DomainsAnswer({line["uuid"]: line["machine"] for line in told}, problem)

    def known_machine_types(self, host: str) -> frozenset[str]:
        """The machine types that a host's QEMU knows, aliases included; none where its libvirt does not tell.

        :raises HypervisorProblem: it does not answer
        """
        told, problem = self._ask(host, {"uuids": None})
        if problem:
            raise HypervisorProblem(problem)
        return frozenset(line["machine"] for line in told)

    def _ask(self, host: str, question: dict[str, Any]) -> tuple[list[dict[str, str]], str | None]:
        """Let a probe ask a host.

        :returns: the lines that came in time, and why there are not more
        """
        uri = self.template.replace(HOST_FIELD, quote(host, safe=""))
        question |= {"uri": uri, "seconds": math.ceil(self.timeout) + PROBE_GRACE}
        with subprocess.Popen(
            PROBE_COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as probe:
            problem = None
            try:
                # Through a pipe: what is on a command line is seen by all users of the machine.
                out, _ = probe.communicate(json.dumps(question).encode(), self.timeout)
            except subprocess.TimeoutExpired:
                problem = f"it does not answer within {self.timeout:g} s"
                with suppress(ProcessLookupError):
                    os.killpg(probe.pid, signal.SIGKILL)  # with an ssh that it may have started
                out, _ = probe.communicate()
        activity.report_answer()
        told = [json.loads(line) for line in out.splitlines(keepends=True) if line.endswith(b"\n")]
        if told and "problem" in told[-1]:
            problem = told.pop()["problem"]
        if probe.returncode and not problem:
            problem = f"the process that asked it ended with {probe.returncode}"
        return told, problem


def configure_hypervisors(template: str, timeout: float, concurrency: int) -> Hypervisors:
    """The hypervisors that a template reaches.

    :raises HypervisorProblem: it names no host, or libvirt-python is not installed
    """
    if HOST_FIELD not in template:
        raise HypervisorProblem(
            f"No way to the hypervisors is configured: set connection_uri in section [libvirt] to a URI with "
            f"{HOST_FIELD}, as in qemu+tls://{HOST_FIELD}/system"
        )
    if find_spec("libvirt") is None:
        raise HypervisorProblem(
            "libvirt-python is not installed: install cellkeeper with its extra libvirt, see docs/libvirt.md"
        )
    return Hypervisors(template, timeout, concurrency)
