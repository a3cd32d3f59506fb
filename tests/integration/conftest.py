"""A cloud for the recorded runs: its services listen as long as a module's tests run."""

from collections.abc import Iterator

import pytest

from tests.support.placement import Placement
from tests.support.recorded.cloud import RecordedCloud
from tests.support.recorded.stand_ins import Keystone, Neutron
from tests.support.relay import Relay
from tests.support.two_cells import TwoCells


@pytest.fixture(scope="module")
def recorded_services(
    made_two_cells: TwoCells, placement_server: Placement
) -> Iterator[RecordedCloud]:
    """The cloud in whatever state the last record left it."""
    with (
        Neutron() as neutron, Relay(placement_server.port) as before_placement, Relay(neutron.port) as before_neutron,
        Keystone({"placement": before_placement.url, "network": before_neutron.url}) as keystone,
    ):  # fmt: skip
        yield RecordedCloud(
            made_two_cells, placement_server, before_placement, keystone, neutron, before_neutron
        )


@pytest.fixture
def recorded_cloud(
    recorded_services: RecordedCloud, two_cells: TwoCells, placement: Placement
) -> RecordedCloud:
    """The cloud with nothing in it, and services that answer."""
    recorded_services.placement_relay.heal()
    recorded_services.neutron_relay.heal()
    return recorded_services
