"""Machine types: which may follow which; what the outcomes of cells and hosts add up to; what
libvirt's XML says.
"""

from collections.abc import Sequence
from itertools import permutations
from typing import Any, Final

import pytest

from clients.hypervisor import HypervisorProblem, configure_hypervisors
from clients.probe import read_known_machine_types, read_machine_type
from jobs.action import CellResult, Failure, FailureKind, Outcome, Target, failure_of
from jobs.codec import decode, encode
from jobs.libvirt import list_unset_machine_type, record_machine_types, update_machine_type
from jobs.libvirt.instances import Instance
from jobs.libvirt.list_unset_machine_type import Unset
from jobs.libvirt.machine_types import MachineType, objection_to_update
from jobs.libvirt.record_machine_types import Recorded
from jobs.libvirt.update_machine_type import Exit, UpdateRefused
from novadb.cells import Cell
from novadb.errors import DatabaseProblem

CELL: Final = Cell("uuid", "cell1", frozenset({1}), DatabaseProblem("not looked at"))

SUPPORTED: Final = (
    *("pc", "q35", "virt", "s390-ccw-virtio"),
    *(
        "pc-1.2",
        "pc-1.2.3",
        "pc-0.14",
        "pc-i440fx-2.1",
        "pc-i440fx-10.0",
        "pc-q35-4.0.1",
        "virt-6.2",
    ),
    *("s390-ccw-virtio-7.0", "pc-i440fx-rhel7.6.0", "pc-q35-rhel8.2.0", "pc-1.0-precise"),
)
UNSUPPORTED: Final = (
    *(
        "",
        "isapc",
        "pseries",
        "microvm",
        "none",
        "PC",
        "pc ",
        "pc-",
        "pc-i440fx",
        "pc-q35",
        "q35-6.0",
        "xpc-1.2",
    ),
    *(
        "pc-q35-focal",
        "pc-i440fx-6",
        "pc-i440fx-6.0.1.2",
        "pc-i440fx-6x0",
        "pc-i440fx-6.0 ",
        "pc-q35-6.0garbage",
    ),
    *("virt-rhel8.2.0", "pc-rhel7.6.0", "pc-i440fx-\u0666.\u0660", "pc-q35-6.0\n"),
)


@pytest.mark.parametrize("name", SUPPORTED)
def test_a_supported_machine_type(name: str) -> None:
    assert MachineType.parse(name).supported


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_an_unsupported_machine_type(name: str) -> None:
    assert not MachineType.parse(name).supported


UNDERLYING: Final = "underlying machine types"
ALIAS: Final = "between an alias and a versioned machine type"
OLDER: Final = "to an older version"


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("pc", "q35", UNDERLYING),
        ("q35", "virt", UNDERLYING),
        ("pc-i440fx-5.1", "pc-q35-6.0", UNDERLYING),
        ("pc-i440fx-5.1", "q35", UNDERLYING),
        ("pc-1.2", "pc-i440fx-2.1", UNDERLYING),
        ("pc-q35-rhel8.2.0", "pc-q35-9.0", UNDERLYING),
        ("pc-q35-6.0", "pc-q35-rhel8.2.0", UNDERLYING),
        ("virt-6.0", "s390-ccw-virtio-6.0", UNDERLYING),
        ("pc", "pc-1.2.3", ALIAS),
        ("pc-1.2.3", "pc", ALIAS),
        ("pc", "pc-i440fx-6.0", ALIAS),
        ("pc-i440fx-rhel7.6.0", "pc", ALIAS),
        ("q35", "pc-q35-6.0", ALIAS),
        ("pc-q35-6.0", "q35", ALIAS),
        ("virt", "virt-6.0", ALIAS),
        ("s390-ccw-virtio-6.0", "s390-ccw-virtio", ALIAS),
        ("virt-rhel8.2.0", "virt", ALIAS),
        ("pc-i440fx-5.1", "pc-i440fx-4.2", OLDER),
        ("pc-q35-6.0.1", "pc-q35-6.0", OLDER),
        ("pc-i440fx-2.11", "pc-i440fx-2.9", OLDER),
        ("pc-q35-10.0", "pc-q35-9.2", OLDER),
        ("pc-q35-rhel8.2.0", "pc-q35-rhel7.6.0", OLDER),
        ("virt-rhel8.2.0", "virt-6.0", OLDER),
    ],
)
def test_an_update_that_is_not_allowed(old: str, new: str, why: str) -> None:
    assert why in (objection_to_update(MachineType.parse(old), MachineType.parse(new)) or "")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("pc-i440fx-5.1", "pc-i440fx-6.0"),
        ("pc-q35-6.0.0", "pc-q35-7.0"),
        ("pc-i440fx-2.9", "pc-i440fx-2.11"),
        ("pc-q35-9.2", "pc-q35-10.0"),
        ("pc-q35-5.2", "pc-q35-5.2.0"),
        ("pc-q35-5.2.0", "pc-q35-5.2"),
        ("pc-q35-rhel7.6.0", "pc-q35-rhel8.2.0"),
        ("pc-1.0-precise", "pc-1.2"),
        ("isapc", "pc"),
        ("pc-q35-focal", "pc-q35-6.2"),
        ("virt-rhel8.2.0", "virt-9.0"),
    ],
)
def test_an_update_that_is_allowed(old: str, new: str) -> None:
    assert objection_to_update(MachineType.parse(old), MachineType.parse(new)) is None


@pytest.mark.parametrize(
    ("state", "old", "new", "code"),
    [
        ("active", "pc", "isapc", Exit.INVALID_STATE),
        (None, None, "pc", Exit.INVALID_STATE),
        ("stopped", "pc", "isapc", Exit.UNSUPPORTED),
        ("stopped", None, "isapc", Exit.UNSUPPORTED),
        ("shelved", "pc", "q35", Exit.INVALID_UPDATE),
        ("shelved_offloaded", None, "q35", None),
        ("stopped", "pc-q35-6.0", "pc-q35-7.0", None),
    ],
)
def test_the_criteria_of_the_manual_in_its_order(
    state: str, old: str | None, new: str, code: Exit | None
) -> None:
    instance = Instance("uuid", state, None, old)
    if code is None:
        update_machine_type.check_update(instance, new)
        return
    with pytest.raises(UpdateRefused) as refused:
        update_machine_type.check_update(instance, new)
    assert refused.value.code is code


NONE, SOME = Unset(), Unset(("a", "b"))
DONE = Recorded(hosts={"h1": {"q35": 2}})
LEFT = Recorded(passed_over={"h2": "why"}, unknown=3)
NO_DOMAIN, NO_HOST = Recorded(without_domain={"h1": 1}), Recorded(without_host=1)
BROKEN, SURPRISE, NO_WAY = FailureKind.CELL, FailureKind.UNEXPECTED, FailureKind.HYPERVISORS


def results(*ends: Outcome | tuple[Outcome, FailureKind | None]) -> list[CellResult[Any]]:
    """Results of cells that ended with these outcomes; with a failure of a kind, or with None:
    stopped.
    """
    found = []
    for end in ends:
        outcome, kind = end if isinstance(end, tuple) else (end, None)
        failure = Failure(kind, "why") if kind else None
        found.append(CellResult(CELL, outcome, failure, complete=not isinstance(end, tuple)))
    return found


@pytest.mark.parametrize(
    ("cells", "code"),
    [
        pytest.param(results(), 0, id="no cell"),
        pytest.param(results(NONE, NONE), 0, id="none anywhere"),
        pytest.param(results(NONE, SOME), 3, id="some in one cell"),
        pytest.param(results(SOME, (NONE, BROKEN)), 1, id="a cell is away: the list is not all"),
        pytest.param(results(SOME, (NONE, None)), 1, id="stopped: the list is not all"),
        pytest.param(results(NONE, (NONE, SURPRISE)), 1, id="a surprise"),
    ],
)
def test_what_a_list_adds_up_to(cells: Sequence[CellResult[Unset]], code: int) -> None:
    action = list_unset_machine_type.ACTION
    assert {
        action.collapse(order, list_unset_machine_type.Params()) for order in permutations(cells)
    } == {code}


@pytest.mark.parametrize(
    ("cells", "code"),
    [
        pytest.param(results(), 0, id="no cell"),
        pytest.param(results(Recorded(), DONE), 0, id="all recorded"),
        pytest.param(results(DONE + LEFT, DONE), 3, id="a host was passed over"),
        pytest.param(
            results(Recorded(passed_over={"h": "why"})),
            0,
            id="one was, and nobody misses it any more",
        ),
        pytest.param(results(NO_DOMAIN), 3, id="no domain"),
        pytest.param(results(DONE, NO_HOST), 3, id="no host"),
        pytest.param(results(LEFT, (DONE, None)), 1, id="stopped"),
        pytest.param(results(LEFT, (DONE, BROKEN)), 1, id="a cell is away"),
        pytest.param(results(LEFT, (Recorded(), NO_WAY)), 4, id="a worker cannot ask"),
        pytest.param(
            results((Recorded(), BROKEN), (Recorded(), NO_WAY)),
            1,
            id="a worker cannot ask, a cell is away",
        ),
    ],
)
def test_what_recording_adds_up_to(cells: Sequence[CellResult[Recorded]], code: int) -> None:
    action = record_machine_types.ACTION
    assert {
        action.collapse(order, record_machine_types.Params()) for order in permutations(cells)
    } == {code}


def test_outcomes_add_up() -> None:
    assert (NONE + SOME + SOME).uuids == ("a", "b", "a", "b")
    total = DONE + LEFT + NO_DOMAIN + NO_HOST + Recorded(hosts={"h3": {"pc": 1}})
    assert (total.rows, total.left) == (3, 5)
    assert total.hosts == {"h1": {"q35": 2}, "h3": {"pc": 1}}
    assert total.by_table == {"instance_system_metadata": 3}


def test_outcomes_travel() -> None:
    total = DONE + LEFT + NO_DOMAIN + NO_HOST
    assert decode(Recorded, encode(total)) == total
    assert decode(Unset, encode(SOME)) == SOME


def test_a_target_without_hypervisors_says_why() -> None:
    with pytest.raises(HypervisorProblem) as problem:
        Target(CELL, None).need_hypervisors()
    assert failure_of(problem.value, None) == Failure(NO_WAY, str(problem.value))


@pytest.mark.parametrize("template", ["", "qemu:///system", "qemu+tls://host/system"])
def test_a_uri_that_names_no_host_asks_nobody(template: str) -> None:
    """It would be the caller's own libvirt that is asked for all hosts."""
    with pytest.raises(HypervisorProblem, match=r"set connection_uri in section \[libvirt\]"):
        configure_hypervisors(template, 1, 1)


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("<type arch='x86_64' machine='pc-q35-7.2'>hvm</type>", "pc-q35-7.2"),
        ("<type machine='s390-ccw-virtio-7.2'>hvm</type>", "s390-ccw-virtio-7.2"),
        ("<type>exe</type>", None),
        ("<type machine=''>hvm</type>", None),
        (f"<type machine='{'x' * 256}'>hvm</type>", None),
        ("<type machine='pc&#10;q35'>hvm</type>", None),
        ("<init>/sbin/init</init>", None),
    ],
)
def test_the_machine_type_of_a_domain(kind: str, found: str | None) -> None:
    assert read_machine_type(f"<domain type='kvm'><name>x</name><os>{kind}</os></domain>") == found


CAPABILITIES: Final = """
<capabilities>
  <host><cpu>{arch}</cpu></host>
  <guest><os_type>hvm</os_type><arch name='i686'>
    <machine maxCpus='1'>isapc</machine>
  </arch></guest>
  <guest><os_type>hvm</os_type><arch name='x86_64'>
    <machine canonical='pc-q35-7.2' maxCpus='288'>q35</machine><machine maxCpus='288'>pc-q35-7.2</machine>
    <domain type='qemu'/><domain type='kvm'><machine maxCpus='1'>microvm</machine></domain>
  </arch></guest>
</capabilities>
"""


@pytest.mark.parametrize(
    ("arch", "names"),
    [
        ("<arch>x86_64</arch>", {"q35", "pc-q35-7.2", "microvm"}),
        ("<arch>i686</arch>", {"isapc"}),
        ("<arch>aarch64</arch>", set()),
        ("", {"q35", "pc-q35-7.2", "microvm", "isapc"}),
    ],
)
def test_the_machine_types_that_a_host_knows(arch: str, names: set[str]) -> None:
    assert read_known_machine_types(CAPABILITIES.format(arch=arch)) == names
