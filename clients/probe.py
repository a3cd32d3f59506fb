"""Asks one libvirt, in a process of its own: question on standard input, answers on its output.

The question is a JSON object with ``uri``, ``seconds`` (after which the process ends, whatever it
waits for) and ``uuids``: the domains whose machine types are wanted, or null for all machine types
that the hypervisor knows. Each answer is a line of JSON. The last line has ``problem`` if answers
are missing.
"""

import json
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from xml.etree import ElementTree


def main() -> None:
    """Answer the question on standard input."""
    question = json.load(sys.stdin)
    signal.alarm(question["seconds"])  # the process that asked may be gone
    try:
        for line in answer_question(question["uri"], question["uuids"]):
            print(json.dumps(line), flush=True)  # not lost if the next call hangs
    except Exception as error:
        print(json.dumps({"problem": " ".join(str(error).split())}), flush=True)


def answer_question(uri: str, uuids: Sequence[str] | None) -> Iterator[dict[str, str]]:
    """The answers, asked on a connection that cannot change anything."""
    import libvirt

    libvirt.registerErrorHandler(lambda *_: None, None)  # it would print
    link = libvirt.openReadOnly(uri)
    if uuids is None:
        for name in sorted(read_known_machine_types(link.getCapabilities())):
            yield {"machine": name}
        return
    for uuid in uuids:
        try:
            description = link.lookupByUUIDString(uuid).XMLDesc()
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise
        else:
            if machine := read_machine_type(description):
                yield {"uuid": uuid, "machine": machine}


def read_machine_type(domain: str) -> str | None:
    """The machine type in libvirt's description of a domain; None if Nova could not store it.

    :source: libvirt, "Domain XML format", element ``os/type``
    """
    # S314: expat limits what entities expand to.
    os_type = ElementTree.fromstring(domain).find("os/type")  # noqa: S314
    name = "" if os_type is None else os_type.get("machine", "")
    is_storable = re.fullmatch(r"[\w.+-]{1,255}", name, re.ASCII)
    return name if is_storable else None


def read_known_machine_types(capabilities: str) -> set[str]:
    """The machine types for guests of the host's own architecture, aliases such as ``pc`` included.

    :source: libvirt, "Driver capabilities XML format", elements ``host/cpu/arch`` and
        ``guest/arch/machine``
    """
    tree = ElementTree.fromstring(capabilities)  # noqa: S314 - as above
    host_arch = tree.findtext("host/cpu/arch")
    machine_types: set[str] = set()
    for arch in tree.findall("guest/arch"):
        if host_arch is None or arch.get("name") == host_arch:
            machine_types |= {machine.text for machine in arch.iter("machine") if machine.text}
    return machine_types


if __name__ == "__main__":
    main()
