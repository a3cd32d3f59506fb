"""Asks one libvirt, as a process of its own: reads a question from standard input, prints a line of JSON per answer.

The question is an object with ``uri``, ``seconds`` (after which the process ends, whatever it waits for) and ``uuids``:
those of the domains whose machine types are wanted, or null for the machine types that the hypervisor knows. The last
line has ``problem`` if not everything could be told.
"""

import json
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from xml.etree import ElementTree


def main() -> None:
    """Answer the question. Each line is printed at once: what is told before a call hangs is not lost."""
    question = json.load(sys.stdin)
    signal.alarm(question["seconds"])  # whoever asked may be gone
    try:
        for line in answer_question(question["uri"], question["uuids"]):
            print(json.dumps(line), flush=True)
    except Exception as error:
        print(json.dumps({"problem": " ".join(str(error).split())}), flush=True)


def answer_question(uri: str, uuids: Sequence[str] | None) -> Iterator[dict[str, str]]:
    """Ask, without the right to change anything."""
    import libvirt

    libvirt.registerErrorHandler(lambda *_: None, None)  # it would print
    link = libvirt.openReadOnly(uri)
    if uuids is None:
        for name in sorted(read_known_machine_types(link.getCapabilities())):
            yield {"machine": name}
        return
    for uuid in uuids:
        try:
            described = link.lookupByUUIDString(uuid).XMLDesc()
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise
        else:
            if machine := read_machine_type(described):
                yield {"uuid": uuid, "machine": machine}


def read_machine_type(domain: str) -> str | None:
    """The machine type of a domain, by libvirt's description of it; None where it has none, or none that Nova can keep.

    :source: libvirt, "Domain XML format", element ``os/type``
    """
    kind = ElementTree.fromstring(domain).find("os/type")  # noqa: S314 - expat limits what entities expand to
    name = "" if kind is None else kind.get("machine", "")
    return name if re.fullmatch(r"[\w.+-]{1,255}", name, re.ASCII) else None


def read_known_machine_types(capabilities: str) -> set[str]:
    """The machine types for guests of the host's own architecture: versions, and the aliases that stand for them.

    :source: libvirt, "Driver capabilities XML format", elements ``host/cpu/arch`` and ``guest/arch/machine``
    """
    tree = ElementTree.fromstring(capabilities)  # noqa: S314 - as above
    own = tree.findtext("host/cpu/arch")
    arches = [arch for arch in tree.findall("guest/arch") if own is None or arch.get("name") == own]
    return {machine.text for arch in arches for machine in arch.iter("machine") if machine.text}


if __name__ == "__main__":
    main()
