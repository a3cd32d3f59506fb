"""Flower in a browser: a person logs in, finds a run while it works, and how it ended.

With the variable FLOWER_PICTURE the page of tasks is kept as a picture, such as docs/flower.png.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tests.support.realcloud import RealCloud
from tests.support.services import Redis
from tests.workers.fleet import CELLS, Site
from tests.workers.web import FlowerPage

REDIS_PASSWORD = "redis-secret"
PATIENCE = 60  # seconds
SLOWLY = "db archive_deleted_rows --all-cells --until-complete --max_rows 100 --sleep 1 --detach"


@pytest.fixture
def site(realcloud: RealCloud, tmp_path: Path) -> Iterator[Site]:
    with Redis(password=REDIS_PASSWORD) as broker:
        yield Site(realcloud, broker, tmp_path)


def rows(browser: Chrome) -> list[list[str]]:
    """The table of tasks: columns as FlowerPage shows them."""
    return [
        [cell.text for cell in row.find_elements(By.TAG_NAME, "td")]
        for row in browser.find_elements(By.CSS_SELECTOR, "#tasks-table tbody tr")
    ]


def test_a_person_logs_in_and_finds_the_run(browser: Chrome, site: Site) -> None:
    wait = WebDriverWait(browser, PATIENCE, ignored_exceptions=[StaleElementReferenceException])
    with FlowerPage(site.config) as page, site.worker("--concurrency", "4") as worker:
        worker.serve()

        browser.get(f"{page.address}/tasks")
        # A headless browser leaves a page that asks for a password empty.
        assert "tasks" not in browser.page_source

        browser.get(page.with_password)
        wait.until(lambda _: "w@here" in browser.page_source)

        run = site.call(SLOWLY).out.strip()

        def shown(state: str, *words: str) -> bool:
            browser.get(f"{page.address}/tasks")
            wait.until(lambda _: browser.find_elements(By.CSS_SELECTOR, "#tasks-table tbody td"))
            return any(
                row[0] == "db.archive_deleted_rows"
                and row[3] == state
                and all(word in row[2] for word in words)
                for row in rows(browser)
            )

        wait.until(lambda _: shown("STARTED", f"run {run}", "rows so far: "))
        if picture := os.environ.get("FLOWER_PICTURE"):
            assert browser.save_screenshot(picture)
        assert {row[1] for row in rows(browser)} <= set(CELLS)
        assert site.call(f"runs cancel {run}").code == 0
        site.until_ended(run)
        wait.until(lambda _: shown("SUCCESS", f"run {run}"))
        wait.until(lambda _: not shown("STARTED"))
        assert REDIS_PASSWORD not in browser.page_source
