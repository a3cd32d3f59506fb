"""What an instance of a flavor needs of Placement.

:source: Nova's manual, "Extra Specs"; as in nova-manage, all groups of a flavor go onto the compute node's provider
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import os_resource_classes as classes

RESOURCES: Final = re.compile(r"resources([a-zA-Z0-9_-]{1,64})?:(.*)")
TRUE: Final = frozenset({"1", "t", "true", "on", "y", "yes"})
POLICIES: Final = ("none", "isolate")


@dataclass(frozen=True)
class Flavor:
    """The flavor that is stored with an instance.

    :ivar swap: MiB; the other sizes are what their names say
    """

    vcpus: int
    memory_mb: int
    root_gb: int
    ephemeral_gb: int
    swap: int
    extra_specs: Mapping[str, str] = field(default_factory=dict)

    @property
    def unsupported(self) -> str:
        """What keeps an instance of this flavor from being healed, or nothing."""
        if "accel:device_profile" in self.extra_specs:
            return "Cyborg device profile"
        if any(name == classes.VGPU for _, name, _ in self._explicit()):
            return "vGPU resource"
        return ""

    @property
    def group_policy(self) -> str:
        """Whether request groups must have providers of their own."""
        policy = self.extra_specs.get("group_policy", POLICIES[0])
        return policy if policy in POLICIES else POLICIES[0]

    def resources(self, image: Mapping[str, str], boots_from_volume: bool) -> dict[str, int]:
        """What an instance needs, all groups merged.

        :param image: properties of the image it was made of, by their names without ``image_``
        """
        groups: dict[str | None, dict[str, int]] = {}
        for suffix, name, amount in self._explicit():
            groups.setdefault(suffix, {})[name] = amount
        plain = groups.setdefault(None, {})
        plain |= self._pinned(image)
        explicit = {name for group in groups.values() for name in group}
        if not {classes.VCPU, classes.PCPU} & explicit:
            plain[classes.VCPU] = self.vcpus
        if classes.MEMORY_MB not in explicit:
            plain[classes.MEMORY_MB] = self.memory_mb
        if classes.DISK_GB not in explicit:
            plain[classes.DISK_GB] = self._disk_gb(boots_from_volume)
        if _is_true(self.extra_specs.get("hw:mem_encryption")) or _is_true(image.get("hw_mem_encryption")):
            plain[classes.MEM_ENCRYPTION_CONTEXT] = 1
        plain |= self._persistent_memory()
        return _merged(groups.values())

    def _explicit(self) -> list[tuple[str | None, str, int]]:
        """Suffix of the group, class and amount of each ``resources:`` that Nova understands; it ignores others."""
        matches = ((RESOURCES.fullmatch(key), value) for key, value in self.extra_specs.items())
        return [
            (match[1], match[2], int(value))
            for match, value in matches
            if match and (match[2] in classes.STANDARDS or match[2].startswith("CUSTOM_")) and _is_amount(value)
        ]

    def _pinned(self, image: Mapping[str, str]) -> dict[str, int]:
        """Dedicated CPUs instead of shared ones."""
        policy = self.extra_specs.get("hw:cpu_policy") or image.get("hw_cpu_policy")
        if policy not in ("dedicated", "mixed"):
            return {}
        dedicated = self.vcpus if policy == "dedicated" else len(self._dedicated_cpus(image))
        isolated = int(self.extra_specs.get("hw:emulator_threads_policy") == "isolate")
        shared = {classes.VCPU: self.vcpus - dedicated} if policy == "mixed" else {}
        return shared | {classes.PCPU: dedicated + isolated}

    def _dedicated_cpus(self, image: Mapping[str, str]) -> set[int]:
        mask = self.extra_specs.get("hw:cpu_dedicated_mask")
        if not mask and _is_true(self.extra_specs.get("hw:cpu_realtime")):
            mask = image.get("hw_cpu_realtime_mask") or self.extra_specs.get("hw:cpu_realtime_mask")
            mask = mask or f"0-{self.vcpus - 1}"
        if not mask:
            return set()
        return _cpus(f"0-{self.vcpus - 1},{mask}" if mask.strip().startswith("^") else mask)

    def _disk_gb(self, boots_from_volume: bool) -> int:
        return self.ephemeral_gb + -(-self.swap // 1024) + (0 if boots_from_volume else self.root_gb)

    def _persistent_memory(self) -> dict[str, int]:
        labels = [label.strip() for label in self.extra_specs.get("hw:pmem", "").split(",") if label.strip()]
        found: dict[str, int] = {}
        for label in labels:
            name = classes.normalize_name(f"PMEM_NAMESPACE_{label}")
            found[name] = found.get(name, 0) + 1
        return found


def read(document: Mapping[str, Any]) -> Flavor:
    """The current flavor in what ``instance_extra.flavor`` holds.

    :raises KeyError, TypeError, ValueError: it holds something else
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


def _merged(groups: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for group in groups:
        for name, amount in group.items():
            total[name] = total.get(name, 0) + amount
    return {name: amount for name, amount in total.items() if amount}


def _is_true(value: str | None) -> bool:
    return (value or "").strip().lower() in TRUE


def _is_amount(value: str) -> bool:
    try:
        return int(value) >= 0
    except ValueError:
        return False


def _cpus(spec: str) -> set[int]:
    """CPU numbers of a specification such as ``0-3,^1``."""
    taken: set[int] = set()
    left_out: set[int] = set()
    for part in filter(None, (word.strip() for word in spec.split(","))):
        first, _, last = part.lstrip("^").partition("-")
        numbers = set(range(int(first), int(last or first) + 1))
        (left_out if part.startswith("^") else taken).update(numbers)
    return taken - left_out
