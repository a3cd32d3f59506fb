"""``cellkeeper flower`` as an operator starts it, and what it answers."""

import subprocess
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tests.support.command import PROGRAM, environment, until
from tests.support.services import HOST, free_port

PATIENCE: Final = 30  # seconds to end

USER: Final = "cellkeeper"
PASSWORD: Final = "tulip-secret"


class FlowerPage:
    """Flower while it runs. As a context manager it is stopped at the end.

    :ivar address: its URL
    """

    def __init__(
        self, config: Path, *words: str, prefix: str = "", env: Mapping[str, str] | None = None
    ) -> None:
        """:param words: options of the command
        :param prefix: the path under which it is configured to be
        :param env: variables besides the one with its password
        """
        port = free_port()
        self.address = f"http://{HOST}:{port}{prefix}"
        self._log = config.with_name("flower.log")
        self._screen = config.with_name("flower.out")
        line = [
            "--config-file",
            str(config),
            "--debug",
            "--log-file",
            str(self._log),
            "flower",
            "--port",
            str(port),
        ]
        with self._screen.open("ab") as screen:
            self.process = subprocess.Popen(
                [str(PROGRAM), *line, *words],
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=screen,
                env=environment({"OS_FLOWER__PASSWORD": PASSWORD} | dict(env or {})),
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        try:
            until(self._answers)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log
        try:
            return self.status("/healthcheck") == 200
        except URLError:
            return False

    @property
    def log(self) -> str:
        """All that it has written so far, to its log and to the screen."""
        return "".join(
            file.read_text(errors="replace") for file in (self._log, self._screen) if file.exists()
        )

    @property
    def with_password(self) -> str:
        """Its URL for a browser, logged in."""
        return self.address.replace("//", f"//{USER}:{PASSWORD}@")

    def page(self, path: str, login: str | None = f"{USER}:{PASSWORD}", method: str = "GET") -> str:
        """What it answers.

        :param login: user and password, None: without
        :raises HTTPError: it refuses
        """
        headers = {"Authorization": f"Basic {b64encode(login.encode()).decode()}"} if login else {}
        with urlopen(
            Request(self.address + path, headers=headers, method=method), timeout=30
        ) as answer:
            return str(answer.read().decode())

    def status(self, path: str, login: str | None = None, method: str = "GET") -> int:
        """The status of what it answers."""
        try:
            self.page(path, login, method)
        except HTTPError as error:
            return error.code
        return 200
