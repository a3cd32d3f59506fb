"""A RabbitMQ of one's own, which can be killed and comes back with its queues."""

import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from kombu import Connection
from kombu.exceptions import OperationalError

from tests.support.services import HOST, Service, free_port

# The name server of Erlang's nodes is started beside the node, in its group of processes: it ends
# with it.
START: Final = "epmd & exec rabbitmq-server"


class RabbitMQ(Service):
    """A node on free ports, with the user ``guest``."""

    PROGRAMS = ("epmd",)

    def __init__(self) -> None:
        super().__init__()
        self._distribution = free_port()
        self._names = free_port()

    def prepare(self) -> None:
        (self.folder / "plugins").write_text("[].")

    def command(self) -> list[str]:
        variables = [f"{name}={value}" for name, value in self._environment().items()]
        return ["env", *variables, "sh", "-c", START]

    def _environment(self) -> Mapping[str, str]:
        return {
            "HOME": str(self.folder),
            "PATH": f"/usr/lib/rabbitmq/bin:{os.environ.get('PATH', os.defpath)}",
            "ERL_EPMD_PORT": str(self._names),
            "ERL_EPMD_ADDRESS": HOST,
            "RABBITMQ_NODENAME": f"cellkeeper{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": HOST,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "logs"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "none"),
        }

    def answers(self) -> bool:
        try:
            with Connection(self.url, connect_timeout=2) as connection:
                connection.ensure_connection(max_retries=1, timeout=2)
        except (OperationalError, OSError):
            return False
        return True

    def kill(self) -> None:
        """End the node with all its processes, as a power cut would."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        super().kill()

    @property
    def url(self) -> str:
        """Where it is, as nova.conf has it."""
        return f"amqp://guest:guest@{HOST}:{self.port}//"
