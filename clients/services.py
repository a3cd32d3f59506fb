"""Placement and Neutron as a process reaches them, by those sections of its nova.conf."""

import logging
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

from keystoneauth1 import exceptions, loading
from keystoneauth1.adapter import Adapter
from keystoneauth1.identity.base import BaseIdentityPlugin
from keystoneauth1.plugin import BaseAuthPlugin
from keystoneauth1.session import Session
from oslo_config import cfg

from clients.concurrency import SingleFlight
from clients.errors import ServiceMisconfigured
from clients.neutron import Neutron
from clients.placement import Placement
from clients.service import TRANSIENT_STATUSES, Service
from settings.errors import InvalidSetting
from settings.services import RETRIES, register_service

S = TypeVar("S", bound=Service)
T = TypeVar("T")

# Seconds for an answer if the configuration sets none: no request waits for ever.
DEFAULT_TIMEOUT: Final = 60.0
# Answers that the cells of a run share are kept for a few runs: a process may work on several.
MAX_SHARED: Final = 8


class Services:
    """Placement and Neutron, each with one session for all threads of the process.

    A session is made when it is first needed.
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        """
        :param conf: of the process; the two sections may be missing until they are used
        """
        self._conf = conf
        self._services: dict[str, Service] = {}
        self._shared: SingleFlight[str, Any] = SingleFlight(MAX_SHARED)
        self._lock = threading.Lock()

    def share(self, name: str, make: Callable[[], T]) -> T:
        """What ``make`` returns, made once for all cells that ask by this name.

        :raises Exception: it failed; the next caller tries again
        """
        shared: T = self._shared.get(name, make)
        return shared

    @property
    def placement(self) -> Placement:
        """:raises ServiceMisconfigured: section [placement] does not say how to reach it"""
        return self._service(Placement)

    @property
    def neutron(self) -> Neutron:
        """:raises ServiceMisconfigured: section [neutron] does not say how to reach it"""
        return self._service(Neutron)

    def _service(self, kind: type[S]) -> S:
        with self._lock:
            if kind.name not in self._services:
                self._services[kind.name] = kind(_make_adapter(self._conf, kind))
            service = self._services[kind.name]
        assert isinstance(service, kind)
        return service


def _make_adapter(conf: cfg.ConfigOpts, kind: type[Service]) -> Adapter:
    """keystoneauth1's own way from a section to a service, with Nova's defaults.

    :raises ServiceMisconfigured: the section cannot be used
    """
    section = kind.name
    try:
        register_service(conf, section)
        auth = _load_login(conf, kind)
        _silence_retries(conf)
        return _load_adapter(conf, section, _load_session(conf, section, auth))
    except (exceptions.ClientException, cfg.Error, TypeError, ValueError, OSError) as error:
        problem = _section_problem(error)
        raise ServiceMisconfigured(
            section, f"{kind.title}: section [{section}] of nova.conf cannot be used: {problem}"
        ) from None


def _load_login(conf: cfg.ConfigOpts, kind: type[Service]) -> BaseAuthPlugin:
    auth = loading.load_auth_from_conf_options(conf, kind.name)
    if auth is None:
        raise ServiceMisconfigured(
            kind.name,
            f"{kind.title} is not configured: set auth_type and its options in section "
            f"[{kind.name}] of nova.conf",
        )
    if isinstance(auth, BaseIdentityPlugin):
        # A private attribute, for which keystoneauth1 has no option: it is held during a login.
        auth._lock = _LoginLock()  # type: ignore[assignment]
    return auth


def _silence_retries(conf: cfg.ConfigOpts) -> None:
    """keystoneauth1 warns of each try; if all fail, there is an error that says so."""
    if "debug" not in conf or not conf.debug:
        for name in ("session", "identity"):
            logging.getLogger(f"keystoneauth.{name}").setLevel(logging.ERROR)


def _load_session(conf: cfg.ConfigOpts, section: str, auth: BaseAuthPlugin) -> Session:
    session = loading.load_session_from_conf_options(
        conf, section, auth=auth, timeout=conf[section].timeout or DEFAULT_TIMEOUT
    )
    connections = conf.cellkeeper.connections
    for transport in session.session.adapters.values():
        # A full pool blocks, so there are never more connections, however many threads ask.
        transport.init_poolmanager(connections, connections, block=True)  # type: ignore[attr-defined]
    return session


def _load_adapter(conf: cfg.ConfigOpts, section: str, session: Session) -> Adapter:
    options = conf[section]
    return loading.load_adapter_from_conf_options(
        conf,
        section,
        session=session,
        user_agent="cellkeeper",
        connect_retries=_configured_or(options.connect_retries, options.http_retries),
        status_code_retries=_configured_or(options.status_code_retries, RETRIES),
        retriable_status_codes=_configured_or(
            options.retriable_status_codes, list(TRANSIENT_STATUSES)
        ),
    )


class _LoginLock:
    """Lets one thread log in at a time, and refuses a thread that would wait for itself.

    If Keystone answers 401 when asked for its versions, keystoneauth1 logs in while it is logging
    in, and waits for its own lock for ever. When refused, it takes the version from auth_url.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holder: int | None = None

    def __enter__(self) -> None:
        if self._holder == threading.get_ident():
            raise exceptions.DiscoveryFailure(
                "Keystone wants a login before it tells its versions."
            )
        self._lock.acquire()
        self._holder = threading.get_ident()

    def __exit__(self, *_: object) -> None:
        self._holder = None
        self._lock.release()


def _section_problem(error: Exception) -> str:
    """What is wrong with a section, without the value that is wrong."""
    if isinstance(error, exceptions.NoMatchingPlugin):
        return "its auth_type names no way to log in that keystoneauth1 has"
    if isinstance(error, exceptions.ClientException | InvalidSetting):
        return str(error)
    if isinstance(error, OSError):
        return f"a file that it names cannot be read ({error.strerror or type(error).__name__})"
    return "one of its options has a value that cannot be used"


def _configured_or(configured: object, default: object) -> object:
    return default if configured is None else configured
