"""One service of the cloud: requests with retries, and its errors in words for operators."""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from keystoneauth1 import adapter, exceptions
from requests import Response
from requests.utils import get_environ_proxies, select_proxy

from clients import activity
from clients.documents import expect_object
from clients.errors import (
    RequestForbidden,
    RequestRefused,
    ServiceMisconfigured,
    ServiceTooOld,
    ServiceUnavailable,
)

# Statuses after which keystoneauth1 repeats the request: every request sent here may come twice.
TRANSIENT_STATUSES: Final = (500, 502, 503, 504)
UNAUTHORIZED: Final = 401
FORBIDDEN: Final = 403
NOT_ACCEPTABLE: Final = 406
# Tries of a request whose token is refused. keystoneauth1 logs in again within each, but with many
# requests in flight the new token may be one that another thread has just replaced.
LOGIN_TRIES: Final = 2
MAX_DETAIL: Final = 300  # characters of an answer that a message repeats
_IDENTITY: Final = (
    exceptions.AuthorizationFailure,
    exceptions.AuthPluginException,
    exceptions.CatalogException,
    exceptions.DiscoveryFailure,
    exceptions.MissingAuthPlugin,
    exceptions.Unauthorized,
    exceptions.VersionNotAvailable,
)
# What our own readers raise for a document of another form: a missing key, a value of another type
# (``clients.documents``), a link that is not a URL.
_MALFORMED: Final = (LookupError, TypeError, ValueError)
# What keystoneauth1 lets through, as it trusts the documents of Keystone and of discovery: no
# X-Subject-Token, or a token without an end (KeyError); a catalog or versions that are not lists
# (TypeError); an end that is not a date, an invalid URL (ValueError); a token that is not an
# object, a URL that is a number (AttributeError).
_MALFORMED_LOGIN: Final = (*_MALFORMED, AttributeError)

T = TypeVar("T")


class Service:
    """A service by its entry in the catalog.

    :ivar name: the section of nova.conf that configures it
    :ivar title: its name in messages
    """

    name: str
    title: str

    def __init__(self, link: adapter.Adapter) -> None:
        self._link = link

    @cached_property
    def endpoint(self) -> str:
        """The URL of the service, without any secret in it.

        :raises ServiceProblem: Keystone or its catalog cannot tell
        """
        keystone_url = getattr(self._link.session.auth, "auth_url", None)
        proxy = _proxy_before(keystone_url)
        with self._translated_errors(f" ({proxy})" if proxy else ""):
            endpoint = self._link.get_endpoint()
        if not endpoint:
            raise ServiceMisconfigured(
                self.name,
                f"{self.title}: the catalog of Keystone has no such service for region_name, "
                f"valid_interfaces and service_type of section [{self.name}]",
            )
        return without_secret(endpoint)

    @cached_property
    def _endpoint_words(self) -> str:
        """The endpoint in messages, with the proxy in front of it."""
        proxy = _proxy_before(self.endpoint)
        return f"({self.endpoint}, {proxy})" if proxy else f"({self.endpoint})"

    @property
    def answer_timeout(self) -> float:
        """Seconds within which an answer must come."""
        seconds = self._link.session.timeout
        assert seconds  # clients.services sets one
        return seconds

    def require(self, microversion: str, purpose: str) -> None:
        """Check that the service is new enough.

        :param purpose: what needs the microversion, in words
        :raises ServiceTooOld: it is not; the text says what it offers
        """
        if not self.offers(microversion):
            newest = ".".join(map(str, self._newest_microversion or ()))
            raise self._too_old(microversion, purpose, newest)

    def check_answers(self) -> None:
        """Check that the service answers at all.

        :raises ServiceProblem: it does not
        """
        self.ask("GET", "/")

    def offers(self, microversion: str) -> bool:
        """Whether the service has a microversion; also true if it does not say what it has."""
        newest = self._newest_microversion
        return newest is None or newest >= _version_numbers(microversion)

    @cached_property
    def _newest_microversion(self) -> tuple[float, ...] | None:
        """None: the service does not say; then the first request shows whether it is too old."""
        with self._translated_errors(f" {self._endpoint_words}"):
            try:
                data = self._link.get_endpoint_data()
            except exceptions.DiscoveryFailure:
                return None
        if data is None or not data.max_microversion:
            return None
        return tuple(data.max_microversion)

    def read(
        self,
        path: str,
        understand: Callable[[Any], T],
        *,
        microversion: str | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> T:
        """Send a GET.

        :param understand: makes the returned value of the document; see ``clients.documents``
        :raises RequestRefused: 4xx, with the service's own words
        :raises ServiceProblem: no usable answer, after retries
        """
        document = self.ask("GET", path, microversion=microversion, params=params)
        try:
            return understand(document)
        except _MALFORMED as error:
            raise ServiceUnavailable(
                self.name,
                f"{self.title} {self._endpoint_words}: GET {path}: answered with a document of "
                "another form",
                answered=True,
            ) from error

    def ask(
        self,
        method: str,
        path: str,
        *,
        microversion: str | None = None,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
    ) -> Any:
        """Send a request.

        :param path: below the endpoint
        :param params: of the query; a list makes the parameter come several times
        :returns: the document that came back, None for an empty answer
        :raises RequestRefused: 4xx, with the service's own words
        :raises ServiceProblem: no usable answer, after retries
        """
        place = f" {self._endpoint_words}: {method} {path}"
        options: dict[str, Any] = {"microversion": microversion, "params": params}
        if json is not None:
            options["json"] = json
        for _ in range(LOGIN_TRIES):
            try:
                with self._translated_errors(place):
                    response = self._link.request(path, method, raise_exc=False, **options)
            finally:
                activity.report_answer()
            if response.status_code != UNAUTHORIZED:
                break
        if response.status_code >= 400:
            raise self._refusal(response, f"{self.title}{place}", microversion)
        if not response.content:
            return None
        try:
            return response.json()
        except ValueError as error:
            raise ServiceUnavailable(
                self.name,
                f"{self.title}{place}: answered {response.status_code} with a body that is not "
                "JSON",
                answered=True,
            ) from error

    def _refusal(self, response: Response, request: str, microversion: str | None) -> Exception:
        """The exception for an answer of 400 or more.

        :param request: the service and what was asked, in words
        """
        status = response.status_code
        code, detail = _code_and_detail(response)
        text = f"{request}: answered {status}"
        if detail:
            text += f": {detail}"
        if status >= 500:
            return ServiceUnavailable(self.name, text, answered=True)
        if status == NOT_ACCEPTABLE and microversion:
            return self._too_old(microversion, request, "less")
        if status == UNAUTHORIZED:
            text += f": the login of section [{self.name}] of nova.conf is not accepted"
            return RequestForbidden(self.name, text, status, code, detail)
        if status == FORBIDDEN:
            text += f": the user of section [{self.name}] lacks a role"
            return RequestForbidden(self.name, text, status, code, detail)
        return RequestRefused(self.name, text, status, code, detail)

    def _too_old(self, microversion: str, purpose: str, offered: str) -> ServiceTooOld:
        return ServiceTooOld(
            self.name,
            f"{self.title} ({self.endpoint}) is too old: {purpose} needs microversion "
            f"{microversion}, it offers {offered}; upgrade it",
        )

    @contextlib.contextmanager
    def _translated_errors(self, place: str) -> Iterator[None]:
        """Raises errors of keystoneauth1 as problems of the service.

        :param place: the endpoint and what was asked, to stand behind the title
        """
        try:
            yield
        except exceptions.ClientException as error:
            raise self._translate(error, place) from error
        except _MALFORMED_LOGIN as error:
            raise ServiceMisconfigured(
                self.name,
                f"{self.title}{place}: no way to it with the options of section [{self.name}] of "
                "nova.conf: Keystone or its catalog answered with a document of another form",
            ) from error

    def _translate(self, error: exceptions.ClientException, place: str) -> Exception:
        """An error of keystoneauth1 in our words; its own may hold URLs."""
        detail = " ".join(_without_urls(str(error)).split())[:MAX_DETAIL]
        if isinstance(error, exceptions.Unauthorized):
            return ServiceMisconfigured(
                self.name,
                f"{self.title}{place}: Keystone does not accept the login of section "
                f"[{self.name}] of nova.conf: {detail}",
            )
        if isinstance(error, _IDENTITY):
            return ServiceMisconfigured(
                self.name,
                f"{self.title}{place}: no way to it with the options of section [{self.name}] of "
                f"nova.conf: {detail}",
            )
        if isinstance(error, exceptions.SSLError):
            reason = f"TLS fails ({detail}); see cafile and insecure in section [{self.name}]"
        elif isinstance(error, exceptions.ConnectTimeout):
            reason = "it does not answer in time"
        else:
            reason = f"no connection: {detail}"
        return ServiceUnavailable(self.name, f"{self.title}{place}: {reason}")


def _proxy_before(url: str | None) -> str:
    """The proxy that the environment puts in front of a URL, in words; empty: there is none."""
    proxy = select_proxy(url, get_environ_proxies(url)) if url else None
    return f"by way of the proxy {without_secret(proxy)} of the environment" if proxy else ""


def without_secret(url: str) -> str:
    """A URL without user, password and query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}"


def _without_urls(text: str) -> str:
    """A text of keystoneauth1 with the secrets of its URLs removed, up to what urllib3 appends."""
    own_text = text.partition(": HTTP")[0]
    return re.sub(r"https?://\S+", lambda match: without_secret(match[0]), own_text)


def _version_numbers(microversion: str) -> tuple[float, ...]:
    return tuple(int(part) for part in microversion.split("."))


def _code_and_detail(response: Response) -> tuple[str, str]:
    """Code and detail of a refusal, in any of the forms that OpenStack services have."""
    try:
        document = expect_object(response.json())
        if errors := document.get("errors"):  # Placement
            error = expect_object(errors[0])
            detail = error.get("detail") or error.get("title", "")
            return str(error.get("code", "")), _shorten(str(detail))
        error = document.get("NeutronError") or document.get("error") or document
        message = error.get("message", "") if isinstance(error, dict) else error
        return "", _shorten(str(message))
    except _MALFORMED:
        return "", _shorten(str(response.reason or ""))


def _shorten(text: str) -> str:
    return " ".join(text.split())[:MAX_DETAIL]
