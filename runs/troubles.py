"""Telling the log what does not work: when that begins, and when it works again, not at each try in between."""

import logging
import threading


class Troubles:
    """What does not work right now. Threads may share it."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._lasting: set[str] = set()

    def begin(self, source: str, text: str) -> None:
        """Something of ``source`` does not work, which ``text`` explains."""
        with self._lock:
            is_new = source not in self._lasting
            self._lasting.add(source)
        if is_new:
            self._log.warning("%s", text)

    def end(self, source: str, text: str = "") -> None:
        """It works.

        :param text: for the log, where it did not work before; empty: nobody need know
        """
        with self._lock:
            has_ended = source in self._lasting
            self._lasting.discard(source)
        if has_ended and text:
            self._log.info("%s", text)
