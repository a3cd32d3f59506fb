"""Flower for our workers: with a password, read only, in words."""

import asyncio
import logging
import signal
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from flower import command
from flower.app import Flower
from flower.options import options as flower_options
from flower.urls import settings
from flower.views.monitor import Metrics
from oslo_config import cfg
from redis.exceptions import RedisError
from tornado.web import RedirectHandler, authenticated

from runs.store import BrokerAway
from workers import app as application
from workers.broker import check_broker

COLUMNS: Final = "name,args,kwargs,state,result,received,runtime,worker"


class ClosedMetrics(Metrics):  # type: ignore[misc]
    """Flower's numbers for those who know the password; Flower itself shows them to everybody."""

    @authenticated
    async def get(self) -> None:
        await super().get()


def run_flower(conf: cfg.ConfigOpts, ready: Callable[[str], None]) -> None:
    """Serve Flower until a signal ends it.

    The password goes from our configuration to Flower's in this process: Flower's own ways, its
    command line and its environment, can be seen from outside.

    :param conf: an empty password: everybody may look
    :param ready: is given the URL as soon as it answers
    :raises OSError: the address is taken, or the certificate cannot be used
    :raises SettingsProblem: the broker can never be used like this
    """
    application.configure(conf)
    with suppress(RedisError, BrokerAway):  # Flower waits for it
        check_broker(application.app, conf)
    own = conf.flower
    prefix = own.url_prefix.strip("/")
    chosen: dict[str, Any] = {
        "address": own.address,
        "port": own.port,
        "basic_auth": [f"{own.user}:{own.password}"] if own.password else [],
        "url_prefix": prefix or None,
        "read_only": own.read_only,
        "tasks_columns": COLUMNS,
    }
    for name, value in chosen.items():
        setattr(flower_options, name, value)
    command.extract_settings()
    flower = Flower(
        capp=application.app, options=flower_options, **settings | {"ssl_options": _tls(own)}
    )
    _add_rules(flower, f"/{prefix}" if prefix else "")
    logging.getLogger("tornado.access").setLevel(logging.WARNING)
    _end_by_signals(flower)
    flower.start_http_server()
    ready(_url(own, prefix))
    flower.start()


def _add_rules(flower: Flower, path: str) -> None:
    """Add rules, which go before those that are there.

    :param path: under which it is published, or empty
    """
    rules: list[Any] = [(f"{path}/metrics", ClosedMetrics)]
    if path:  # Flower itself answers with a slash at the end only
        rules.append((path, RedirectHandler, {"url": f"{path}/"}))
    flower.add_handlers(".*", rules)


def _url(own: Any, prefix: str) -> str:
    host = f"[{own.address}]" if ":" in own.address else own.address
    return f"http{'s' if own.cert_file else ''}://{host}:{own.port}/{prefix}{'/' if prefix else ''}"


def _tls(own: Any) -> ssl.SSLContext | None:
    if not own.cert_file:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(own.cert_file, own.key_file)
    return context


def _end_by_signals(flower: Flower) -> None:
    """A signal that comes from now on ends it, before it has begun or later."""
    loop: asyncio.AbstractEventLoop = flower.io_loop.asyncio_loop
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, flower.stop)
