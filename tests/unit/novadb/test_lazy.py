"""Threads wait for no lock that all databases share: a forked child would for ever."""

import threading

import pytest

from novadb import urls
from novadb.engine import Database
from novadb.lazy import lazy_property
from settings.databases import Timeouts


def test_the_location_of_a_database_is_found_while_another_one_is_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find, is_looking, may_end = urls.location_of_url, threading.Event(), threading.Event()

    def find_slowly(url: urls.URL) -> urls.Location:
        if url.host == "slow":
            is_looking.set()
            may_end.wait()
        return find(url)

    monkeypatch.setattr(urls, "location_of_url", find_slowly)
    slow = Database("mysql://slow/nova", "cell1", Timeouts())
    quick = Database("mysql://quick/nova", "cell2", Timeouts())
    locations: list[str] = []
    first = threading.Thread(target=lambda: slow.location)
    second = threading.Thread(target=lambda: locations.append(quick.server), daemon=True)
    first.start()
    assert is_looking.wait(60)
    second.start()
    second.join(60)
    was_found = list(locations)
    may_end.set()
    first.join()
    assert was_found == ["quick:3306"]


def test_threads_that_look_for_a_value_at_the_same_time_have_the_same_one() -> None:
    both_look = threading.Barrier(2, timeout=60)

    class Shared:
        @lazy_property
        def value(self) -> object:
            both_look.wait()
            return object()

    shared = Shared()
    values: list[object] = []
    threads = [threading.Thread(target=lambda: values.append(shared.value)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values == [shared.value] * 2
