"""``metrics``: print them, write them into a file, or serve them."""

import threading
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    generate_latest,
    start_http_server,
    write_to_textfile,
)

from cli import configuration
from cli.output import Lines, put, say
from cli.signals import graceful_stop
from cli.watch.collector import Backlogs, Metrics
from jobs.exit_codes import UNEXPECTED

USAGE: Final = 2


def run_metrics(listen: str | None, path: str | None, backlog_every: float) -> int:
    """Gather the metrics once, or whenever somebody asks for them."""
    if listen and path:
        say(
            "cellkeeper metrics: --listen and --file exclude each other. Try: cellkeeper metrics "
            "--help"
        )
        return USAGE
    conf = configuration.load(check=True)
    backlogs = Backlogs(conf)
    registry = CollectorRegistry()
    registry.register(Metrics(conf, backlogs))
    if listen:
        return _serve(listen, registry, backlogs, backlog_every)
    backlogs.look()
    if path:
        return _write(path, registry)
    put(Lines(generate_latest(registry).decode()), newline=False)
    return 0


def _write(path: str, registry: CollectorRegistry) -> int:
    """Write them as a whole: by way of another file in the same folder."""
    try:
        write_to_textfile(path, registry)
    except OSError as error:
        say(f"{path} cannot be written: {error.strerror}")
        return UNEXPECTED
    return 0


def _serve(listen: str, registry: CollectorRegistry, backlogs: Backlogs, every: float) -> int:
    """Serve until a signal comes. The cells are looked at in the background: nobody who asks waits
    for them.
    """
    host, _, port = listen.rpartition(":")
    if not port.isdecimal() or not host:
        say(
            f"cellkeeper metrics: {listen!r} is no HOST:PORT to listen at. Try: cellkeeper metrics "
            "--help"
        )
        return USAGE
    with graceful_stop("Stopping.") as stop:
        try:
            server, thread = start_http_server(int(port), host.strip("[]"), registry)
        except OSError as error:
            say(f"{listen} cannot be listened at: {error.strerror}")
            return UNEXPECTED
        threading.Thread(
            target=backlogs.keep, args=(every, stop), name="backlogs", daemon=True
        ).start()
        stop.wait()
        server.shutdown()
        server.server_close()
        thread.join()
    return 0
