"""Logs a lasting failure once when it begins and once when it is over, not at each try in
between.
"""

import logging
import threading


class Troubles:
    """The failures that last. Threads may share it."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._lasting: set[str] = set()

    def begin(self, source: str, text: str) -> None:
        """Note that ``source`` fails; ``text``, for the log, says why."""
        with self._lock:
            is_new = source not in self._lasting
            self._lasting.add(source)
        if is_new:
            self._log.warning("%s", text)

    def end(self, source: str, text: str = "") -> None:
        """Note that ``source`` works.

        :param text: for the log, if it failed before; empty: nothing is logged
        """
        with self._lock:
            has_ended = source in self._lasting
            self._lasting.discard(source)
        if has_ended and text:
            self._log.info("%s", text)
