"""The libvirt of the compute hosts: the machine types of their domains, and those their QEMU knows.

Each host is asked by a process of its own (``clients.probe``): a call into libvirt may block for
ever, on a firewall, a name server or a lock of the daemon; and a process can be killed, a thread
cannot.
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
# Seconds after its time limit at which a probe ends by itself, should its caller be gone.
PROBE_GRACE: Final = 5
PROBE_COMMAND: Final = (sys.executable, "-P", "-m", "clients.probe")


class HypervisorProblem(Exception):
    """A hypervisor cannot be asked. The text says why, or what to do; it holds no secret."""


@dataclass(frozen=True)
class DomainsAnswer:
    """A host's answer about its domains.

    :ivar machine_types: by the UUID of the domain; domains that the host does not have are missing
    :ivar problem: why the answer is incomplete; None: it is complete
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

    def machine_types(
        self, uuids_by_host: Mapping[str, Sequence[str]]
    ) -> Generator[tuple[str, DomainsAnswer]]:
        """Ask hosts for the machine types of domains, several hosts at a time.

        :param uuids_by_host: the UUIDs of the domains
        :returns: host by host, in the order of ``uuids_by_host``. Nothing is raised: what went
            wrong is in the answer
        """
        pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="hypervisor")
        try:
            answers = pool.map(self._ask_for_domains, uuids_by_host, uuids_by_host.values())
            yield from zip(uuids_by_host, answers, strict=True)
        finally:
            pool.shutdown(cancel_futures=True)

    def _ask_for_domains(self, host: str, uuids: Sequence[str]) -> DomainsAnswer:
        domains, problem = self._ask(host, {"uuids": list(uuids)})
        return DomainsAnswer({line["uuid"]: line["machine"] for line in domains}, problem)

    def known_machine_types(self, host: str) -> frozenset[str]:
        """The machine types that a host's QEMU knows, aliases included; empty if it has no list.

        :raises HypervisorProblem: the host does not answer
        """
        machines, problem = self._ask(host, {"uuids": None})
        if problem:
            raise HypervisorProblem(problem)
        return frozenset(line["machine"] for line in machines)

    def _ask(self, host: str, question: dict[str, Any]) -> tuple[list[dict[str, str]], str | None]:
        """Let a probe ask a host.

        :returns: the lines that came in time, and why there are not more of them
        """
        uri = self.template.replace(HOST_FIELD, quote(host, safe=""))
        question |= {"uri": uri, "seconds": math.ceil(self.timeout) + PROBE_GRACE}
        output, problem = _run_probe(question, self.timeout)
        activity.report_answer()
        # A line without its end was cut off by the end of the process.
        complete_lines = [line for line in output.splitlines(keepends=True) if line.endswith(b"\n")]
        answers = [json.loads(line) for line in complete_lines]
        if answers and "problem" in answers[-1]:
            # The host's own words say more than ours.
            problem = answers.pop()["problem"]
        return answers, problem


def _run_probe(question: Mapping[str, Any], timeout: float) -> tuple[bytes, str | None]:
    """Run a probe, and kill it when its time is over.

    :param timeout: seconds
    :returns: what it printed, and what went wrong with it
    """
    with subprocess.Popen(
        PROBE_COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as probe:
        try:
            # Through a pipe: all users of the machine can read command lines.
            output, _ = probe.communicate(json.dumps(question).encode(), timeout)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(probe.pid, signal.SIGKILL)  # with an ssh that it may have started
            output, _ = probe.communicate()
            return output, f"it does not answer within {timeout:g} s"
    if probe.returncode:
        return output, f"the process that asked it ended with {probe.returncode}"
    return output, None


def configure_hypervisors(template: str, timeout: float, concurrency: int) -> Hypervisors:
    """The hypervisors whose URIs a template makes.

    :raises HypervisorProblem: the template names no host, or libvirt-python is not installed
    """
    if HOST_FIELD not in template:
        raise HypervisorProblem(
            "No way to the hypervisors is configured: set connection_uri in section [libvirt] to a "
            f"URI with {HOST_FIELD}, as in qemu+tls://{HOST_FIELD}/system"
        )
    if find_spec("libvirt") is None:
        raise HypervisorProblem(
            "libvirt-python is not installed: install cellkeeper with its extra libvirt, see "
            "docs/libvirt.md"
        )
    return Hypervisors(template, timeout, concurrency)
