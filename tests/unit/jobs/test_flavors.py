"""What an instance needs of Placement, by its flavor: the amounts that Nova's scheduler would ask
for.
"""

from typing import Any

import pytest

from jobs.placement.flavors import Flavor, parse_flavor
from tests.support.small_cloud import flavor

PLAIN = {"VCPU": 4, "MEMORY_MB": 512, "DISK_GB": 10}


@pytest.mark.parametrize(
    ("specs", "sizes", "image", "volume", "needed"),
    [
        pytest.param({}, {}, {}, False, PLAIN, id="plain"),
        pytest.param({}, {"ephemeral_gb": 5, "swap": 1500}, {}, False, PLAIN | {"DISK_GB": 17}, id="swap"),
        pytest.param({}, {"ephemeral_gb": 5, "swap": 1500}, {}, True, PLAIN | {"DISK_GB": 7}, id="boots from volume"),
        pytest.param({}, {}, {}, True, {"VCPU": 4, "MEMORY_MB": 512}, id="no disk at all"),
        pytest.param(
            {"resources:VCPU": "0", "resources:CUSTOM_FOO": "3", "resources:DISK_GB": "7"}, {}, {}, False,
            {"CUSTOM_FOO": 3, "DISK_GB": 7, "MEMORY_MB": 512}, id="overrides",
        ),
        pytest.param(
            {"resources:VCPU": "abc", "resources:BOGUS": "1", "resources1:VCPU": "9", "resources:DISK_GB": "-1"}, {},
            {}, False, {"VCPU": 9, "MEMORY_MB": 512, "DISK_GB": 10}, id="nonsense is ignored, "
            "groups are merged",
        ),
        pytest.param(
            {"resources1:CUSTOM_FOO": "1", "resources_b:CUSTOM_FOO": "2"}, {}, {}, False, PLAIN | {"CUSTOM_FOO": 3},
            id="groups add up",
        ),
        pytest.param(
            {"hw:cpu_policy": "dedicated"}, {}, {}, False, {"PCPU": 4, "MEMORY_MB": 512, "DISK_GB": 10}, id="dedicated"
        ),
        pytest.param(
            {}, {}, {"hw_cpu_policy": "dedicated"}, False, {"PCPU": 4, "MEMORY_MB": 512, "DISK_GB": 10},
            id="dedicated by the image",
        ),
        pytest.param(
            {"hw:cpu_policy": "dedicated", "hw:emulator_threads_policy": "isolate"}, {}, {}, False,
            {"PCPU": 5, "MEMORY_MB": 512, "DISK_GB": 10}, id="a CPU for the emulator",
        ),
        pytest.param(
            {"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "0-1"}, {}, {}, False,
            {"VCPU": 2, "PCPU": 2, "MEMORY_MB": 512, "DISK_GB": 10}, id="mixed",
        ),
        pytest.param(
            {"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "^0"}, {}, {}, False,
            {"VCPU": 1, "PCPU": 3, "MEMORY_MB": 512, "DISK_GB": 10}, id="mixed, all but one",
        ),
        pytest.param(
            {"hw:cpu_policy": "mixed", "hw:cpu_realtime": "yes", "hw:cpu_realtime_mask": "^0-1"}, {}, {}, False,
            {"VCPU": 2, "PCPU": 2, "MEMORY_MB": 512, "DISK_GB": 10}, id="mixed by the realtime "
            "mask",
        ),
        pytest.param({"hw:cpu_policy": "shared"}, {}, {}, False, PLAIN, id="shared"),
        pytest.param({"hw:pmem": "2GB,2GB"}, {}, {}, False, PLAIN | {"CUSTOM_PMEM_NAMESPACE_2GB": 2}, id="vPMEM"),
        pytest.param({"hw:mem_encryption": "true"}, {}, {}, False, PLAIN | {"MEM_ENCRYPTION_CONTEXT": 1}, id="SEV"),
        pytest.param({}, {}, {"hw_mem_encryption": "True"}, False, PLAIN | {"MEM_ENCRYPTION_CONTEXT": 1}, id="image"),
        pytest.param(
            {"resources:VCPU": "0", "resources:MEMORY_MB": "0", "resources:DISK_GB": "0", "resources:CUSTOM_BM": "1"},
            {}, {}, False, {"CUSTOM_BM": 1}, id="bare metal",
        ),
    ],
)  # fmt: skip
def test_resources(
    specs: dict[str, str],
    sizes: dict[str, int],
    image: dict[str, str],
    volume: bool,
    needed: dict[str, int],
) -> None:
    assert parse_flavor(flavor(specs, **({"vcpus": 4} | sizes))).resources(image, volume) == needed


@pytest.mark.parametrize(
    ("specs", "word"),
    [
        ({"resources:VGPU": "1"}, "vGPU resource"),
        ({"resources1:VGPU": "1"}, "vGPU resource"),
        ({"accel:device_profile": "x"}, "Cyborg device profile"),
        ({"resources:CUSTOM_VGPU": "1"}, ""),
    ],
)
def test_what_is_not_supported(specs: dict[str, str], word: str) -> None:
    assert parse_flavor(flavor(specs)).unsupported_request == word


def test_a_mask_that_cannot_be_understood() -> None:
    stored = flavor({"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "a-b"})
    with pytest.raises(ValueError, match="invalid literal"):
        parse_flavor(stored).resources({}, False)


@pytest.mark.parametrize(
    "document", [{}, {"cur": None}, {"cur": {"nova_object.data": {"vcpus": "x"}}}, []]
)
def test_what_is_no_flavor(document: Any) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        parse_flavor(document)


def test_a_group_policy() -> None:
    assert Flavor(1, 1, 1, 0, 0, {"group_policy": "isolate"}).group_policy == "isolate"
    assert Flavor(1, 1, 1, 0, 0, {"group_policy": "nonsense"}).group_policy == "none"
