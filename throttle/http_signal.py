"""The signal of an HTTP check, by freno's status codes."""

from collections.abc import Iterator
from typing import Final

import requests

from settings.throttle import ThrottleSettings
from throttle.look import Look
from throttle.readings import Answer, Reading

NAME: Final = "http"
TIMEOUT: Final = 2.0
"""Seconds to wait for the connection, and for the answer."""
ANSWERS: Final = {
    200: Answer.GO,
    417: Answer.STOP,  # freno: this application is not to work now
    429: Answer.STOP,  # freno: the threshold is exceeded
}


def is_on(settings: ThrottleSettings) -> bool:
    """Whether there is an address."""
    return bool(settings.http)


def read(look: Look) -> Iterator[Reading]:
    """What the address answers.

    :source: freno, doc/http.md: 200, 404, 417, 429, 500
    """
    location = look.database.location
    url = look.settings.http.format(host=location.host, port=location.port)
    try:
        code = requests.head(url, timeout=TIMEOUT, allow_redirects=True).status_code
    except requests.RequestException as error:
        yield Reading(
            NAME, Answer.UNKNOWN, f"the HTTP check did not answer ({type(error).__name__})"
        )
        return
    yield Reading(NAME, ANSWERS.get(code, Answer.UNKNOWN), f"the HTTP check answered {code}")
