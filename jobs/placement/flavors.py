"""What an instance of a flavor needs from Placement.

:source: Nova's manual, "Extra Specs"; as in nova-manage, all groups of a flavor go onto the
    provider of the compute node
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import os_resource_classes as classes

RESOURCES: Final = re.compile(r"resources([a-zA-Z0-9_-]{1,64})?:(.*)")
TRUE_VALUES: Final = frozenset({"1", "t", "true", "on", "y", "yes"})
DEFAULT_GROUP_POLICY: Final = "none"
GROUP_POLICIES: Final = (DEFAULT_GROUP_POLICY, "isolate")
MIB_PER_GIB: Final = 1024


class RequestedAmount(NamedTuple):
    """A ``resources:`` extra spec.

    :ivar group: the suffix of its group; None: it is in the group without a suffix
    """

    group: str | None
    resource_class: str
    amount: int


@dataclass(frozen=True)
class Flavor:
    """The flavor that is stored with an instance.

    :ivar swap: in MiB; the units of the other sizes are in their names
    """

    vcpus: int
    memory_mb: int
    root_gb: int
    ephemeral_gb: int
    swap: int
    extra_specs: Mapping[str, str] = field(default_factory=dict)

    @property
    def unsupported_request(self) -> str:
        """What keeps an instance of this flavor from being healed; empty: nothing does."""
        if "accel:device_profile" in self.extra_specs:
            return "Cyborg device profile"
        if any(requested.resource_class == classes.VGPU for requested in self._requested()):
            return "vGPU resource"
        return ""

    @property
    def group_policy(self) -> str:
        """Whether request groups must have providers of their own."""
        policy = self.extra_specs.get("group_policy")
        return policy if policy in GROUP_POLICIES else DEFAULT_GROUP_POLICY

    def resources(
        self, image_properties: Mapping[str, str], boots_from_volume: bool
    ) -> dict[str, int]:
        """What an instance needs, with all groups merged.

        :param image_properties: those of the image it was made from, without ``image_``
        """
        groups: dict[str | None, dict[str, int]] = {}
        for requested in self._requested():
            groups.setdefault(requested.group, {})[requested.resource_class] = requested.amount
        unnamed = groups.setdefault(None, {})
        unnamed |= self._pinned_cpus(image_properties)
        # Amounts that the extra specs give take the place of those of the flavor itself.
        explicit = set[str]().union(*groups.values())
        if explicit.isdisjoint({classes.VCPU, classes.PCPU}):
            unnamed[classes.VCPU] = self.vcpus
        if classes.MEMORY_MB not in explicit:
            unnamed[classes.MEMORY_MB] = self.memory_mb
        if classes.DISK_GB not in explicit:
            unnamed[classes.DISK_GB] = self._disk_gb(boots_from_volume)
        if self._needs_encrypted_memory(image_properties):
            unnamed[classes.MEM_ENCRYPTION_CONTEXT] = 1
        unnamed |= self._persistent_memory()
        return _merge_groups(groups.values())

    def _requested(self) -> Iterator[RequestedAmount]:
        """The ``resources:`` extra specs that Nova understands; it ignores the others."""
        for key, value in self.extra_specs.items():
            match = RESOURCES.fullmatch(key)
            if match and _is_resource_class(match[2]) and _is_amount(value):
                yield RequestedAmount(match[1], match[2], int(value))

    def _pinned_cpus(self, image_properties: Mapping[str, str]) -> dict[str, int]:
        """Dedicated CPUs, and for a mixed policy the shared ones beside them."""
        policy = self.extra_specs.get("hw:cpu_policy") or image_properties.get("hw_cpu_policy")
        if policy not in ("dedicated", "mixed"):
            return {}
        emulator_cpus = int(self.extra_specs.get("hw:emulator_threads_policy") == "isolate")
        if policy == "dedicated":
            return {classes.PCPU: self.vcpus + emulator_cpus}
        dedicated = len(self._dedicated_cpus(image_properties))
        return {classes.VCPU: self.vcpus - dedicated, classes.PCPU: dedicated + emulator_cpus}

    def _dedicated_cpus(self, image_properties: Mapping[str, str]) -> set[int]:
        all_cpus = f"0-{self.vcpus - 1}"
        mask = self.extra_specs.get("hw:cpu_dedicated_mask")
        if not mask and _is_true(self.extra_specs.get("hw:cpu_realtime")):
            mask = (
                image_properties.get("hw_cpu_realtime_mask")
                or self.extra_specs.get("hw:cpu_realtime_mask")
                or all_cpus
            )
        if not mask:
            return set()
        # A mask that only excludes CPUs starts from all of them.
        return _cpu_numbers(f"{all_cpus},{mask}" if mask.strip().startswith("^") else mask)

    def _disk_gb(self, boots_from_volume: bool) -> int:
        swap_gb = -(-self.swap // MIB_PER_GIB)  # rounded up
        root_gb = 0 if boots_from_volume else self.root_gb
        return root_gb + self.ephemeral_gb + swap_gb

    def _needs_encrypted_memory(self, image_properties: Mapping[str, str]) -> bool:
        return _is_true(self.extra_specs.get("hw:mem_encryption")) or _is_true(
            image_properties.get("hw_mem_encryption")
        )

    def _persistent_memory(self) -> dict[str, int]:
        namespaces: dict[str, int] = {}
        for label in self.extra_specs.get("hw:pmem", "").split(","):
            if label.strip():
                name = classes.normalize_name(f"PMEM_NAMESPACE_{label.strip()}")
                namespaces[name] = namespaces.get(name, 0) + 1
        return namespaces


def parse_flavor(document: Mapping[str, Any]) -> Flavor:
    """The current flavor in a value of ``instance_extra.flavor``.

    :raises KeyError, TypeError, ValueError: the document is something else
    """
    data = document["cur"]["nova_object.data"]
    return Flavor(
        int(data["vcpus"]),
        int(data["memory_mb"]),
        int(data["root_gb"]),
        int(data["ephemeral_gb"] or 0),
        int(data["swap"] or 0),
        {key: str(value) for key, value in (data.get("extra_specs") or {}).items()},
    )


def _merge_groups(groups: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for group in groups:
        for name, amount in group.items():
            total[name] = total.get(name, 0) + amount
    return {name: amount for name, amount in total.items() if amount}


def _is_resource_class(name: str) -> bool:
    return name in classes.STANDARDS or name.startswith("CUSTOM_")


def _is_true(value: str | None) -> bool:
    return (value or "").strip().lower() in TRUE_VALUES


def _is_amount(value: str) -> bool:
    try:
        return int(value) >= 0
    except ValueError:
        return False


def _cpu_numbers(spec: str) -> set[int]:
    """The CPU numbers of a specification such as ``0-3,^1``."""
    included: set[int] = set()
    excluded: set[int] = set()
    for part in (part.strip() for part in spec.split(",")):
        if not part:
            continue
        first, _, last = part.lstrip("^").partition("-")
        numbers = range(int(first), int(last or first) + 1)
        if part.startswith("^"):
            excluded.update(numbers)
        else:
            included.update(numbers)
    return included - excluded
