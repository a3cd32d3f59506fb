"""The services as one process reaches them, by the sections [placement] and [neutron] of its nova.conf."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from keystoneauth1 import exceptions, loading
from keystoneauth1.adapter import Adapter
from keystoneauth1.identity.base import BaseIdentityPlugin
from oslo_config import cfg

from clients.errors import ServiceMisconfigured
from clients.neutron import Neutron
from clients.placement import Placement
from clients.service import TRANSIENT_STATUSES, Service
from settings.errors import InvalidSetting
from settings.services import RETRIES, register_service

S = TypeVar("S", bound=Service)
T = TypeVar("T")

DEFAULT_TIMEOUT: Final = 60.0  # seconds for an answer, where the configuration sets none: nobody waits for ever
REMEMBERED: Final = 8  # things that the cells of a run share: a process may work on a few runs


class Services:
    """Placement and Neutron, each with one session for all threads of the process, made when it is first needed."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        """:param conf: of the process; the two sections need not be there until they are used"""
        self._conf = conf
        self._made: dict[str, Service] = {}
        self._shared: dict[str, Future[Any]] = {}
        self._lock = threading.Lock()

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What ``make`` returns, made once for all who ask by this name: the others wait for the first.

        :raises Exception: it failed; the next one to ask tries again
        """
        with self._lock:
            mine = name not in self._shared
            found: Future[T] = self._shared.setdefault(name, Future())
            for old in list(self._shared)[:-REMEMBERED]:
                del self._shared[old]
        if mine:
            try:
                found.set_result(make())
            except BaseException as error:
                with self._lock:
                    self._shared.pop(name, None)
                found.set_exception(error)
        return found.result()

    @property
    def placement(self) -> Placement:
        """:raises Misconfigured: section [placement] does not say how to reach it"""
        return self._service(Placement)

    @property
    def neutron(self) -> Neutron:
        """:raises Misconfigured: section [neutron] does not say how to reach it"""
        return self._service(Neutron)

    def _service(self, kind: type[S]) -> S:
        with self._lock:
            if kind.name not in self._made:
                self._made[kind.name] = kind(_link(self._conf, kind))
            made = self._made[kind.name]
        assert isinstance(made, kind)
        return made


def _link(conf: cfg.ConfigOpts, kind: type[Service]) -> Adapter:
    """keystoneauth1's own way from a section to a service, with Nova's defaults."""
    group = kind.name
    try:
        register_service(conf, group)
        auth = loading.load_auth_from_conf_options(conf, group)
        if auth is None:
            raise ServiceMisconfigured(
                group,
                f"{kind.title} is not configured: set auth_type and its options in section [{group}] of nova.conf",
            )
        if isinstance(auth, BaseIdentityPlugin):
            # A private attribute, for which keystoneauth1 has no option: it is held while it logs in.
            auth._lock = _LoginLock()  # type: ignore[assignment]
        options = conf[group]
        if "debug" not in conf or not conf.debug:
            # They warn of each try; what is an error in the end is told as one.
            for name in ("session", "identity"):
                logging.getLogger(f"keystoneauth.{name}").setLevel(logging.ERROR)
        session = loading.load_session_from_conf_options(
            conf, group, auth=auth, timeout=options.timeout or DEFAULT_TIMEOUT
        )
        for transport in session.session.adapters.values():
            # The pool is the bound: no more connections than that, whoever asks.
            transport.init_poolmanager(conf.cellkeeper.connections, conf.cellkeeper.connections, block=True)  # type: ignore[attr-defined]
        return loading.load_adapter_from_conf_options(
            conf,
            group,
            session=session,
            user_agent="cellkeeper",
            connect_retries=_or(options.connect_retries, options.http_retries),
            status_code_retries=_or(options.status_code_retries, RETRIES),
            retriable_status_codes=_or(options.retriable_status_codes, list(TRANSIENT_STATUSES)),
        )
    except (exceptions.ClientException, cfg.Error, TypeError, ValueError, OSError) as error:
        line = f"{kind.title}: section [{group}] of nova.conf cannot be used: {_words(error)}"
        raise ServiceMisconfigured(group, line) from None


class _LoginLock:
    """Lets one thread log in, and refuses one that would wait for itself.

    A Keystone that answers 401 to the question for its versions makes keystoneauth1 log in while it logs in, and wait
    for its own lock for ever. Refused, it takes the version from auth_url.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holder: int | None = None

    def __enter__(self) -> None:
        if self._holder == threading.get_ident():
            raise exceptions.DiscoveryFailure("Keystone wants a login before it tells its versions.")
        self._lock.acquire()
        self._holder = threading.get_ident()

    def __exit__(self, *_: object) -> None:
        self._holder = None
        self._lock.release()


def _words(error: Exception) -> str:
    """What is wrong with a section, without the value that is wrong."""
    if isinstance(error, exceptions.NoMatchingPlugin):
        return "its auth_type names no way to log in that keystoneauth1 has"
    if isinstance(error, exceptions.ClientException | InvalidSetting):
        return str(error)
    if isinstance(error, OSError):
        return f"a file that it names cannot be read ({error.strerror or type(error).__name__})"
    return "one of its options has a value that cannot be used"


def _or(configured: object, default: object) -> object:
    return default if configured is None else configured
