"""One service of the cloud: requests with retries, and what becomes of answers that are none."""

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
from clients.errors import RequestForbidden, RequestRefused, ServiceMisconfigured, ServiceTooOld, ServiceUnavailable

# What may be another answer a moment later: every request here may come twice. keystoneauth1 asks again.
TRANSIENT_STATUSES: Final = (500, 502, 503, 504)
UNAUTHORIZED, FORBIDDEN = 401, 403
# Tries of a request whose token is refused. keystoneauth1 logs in anew within each; where many requests are under way,
# the new token may be another one's old.
LOGIN_TRIES: Final = 2
MAX_DETAIL: Final = 300  # characters of an answer that are worth repeating
_IDENTITY: Final = (
    exceptions.AuthorizationFailure, exceptions.AuthPluginException, exceptions.CatalogException,
    exceptions.DiscoveryFailure, exceptions.MissingAuthPlugin, exceptions.Unauthorized, exceptions.VersionNotAvailable,
)  # fmt: skip
# What our own readers raise about a document of another form: a key that is not there, a value of another type
# (``clients.documents``), a link that is no URL.
_MALFORMED: Final = (LookupError, TypeError, ValueError)
# What keystoneauth1 lets through, which trusts the documents of Keystone and of discovery: no X-Subject-Token, or a
# token without an end (KeyError); a catalog or versions that are no lists (TypeError); an end that is no date, a URL
# that is none (ValueError); a token that is no object, a URL that is a number (AttributeError).
_MALFORMED_LOGIN: Final = (*_MALFORMED, AttributeError)

T = TypeVar("T")


class Service:
    """A service by its entry in the catalog.

    :ivar name: the section of nova.conf that configures it
    """

    name: str
    title: str

    def __init__(self, link: adapter.Adapter) -> None:
        self._link = link

    @cached_property
    def place(self) -> str:
        """Where the service is, without whatever secret its URL holds.

        :raises ServiceProblem: Keystone or its catalog cannot tell
        """
        keystone = getattr(self._link.session.auth, "auth_url", None)
        proxy = self._by_proxy(keystone).removeprefix(", ")
        with self._reaching(f" ({proxy})" if proxy else ""):
            endpoint = self._link.get_endpoint()
        if not endpoint:
            raise ServiceMisconfigured(
                self.name,
                f"{self.title}: the catalog of Keystone has no such service for region_name, valid_interfaces and "
                f"service_type of section [{self.name}]",
            )
        return without_secret(endpoint)

    @cached_property
    def _where(self) -> str:
        """The place in messages, with the proxy that stands before it."""
        return f"({self.place}{self._by_proxy(self.place)})"

    @property
    def patience(self) -> float:
        """Seconds within which an answer must come."""
        seconds = self._link.session.timeout
        assert seconds  # clients.services sets one
        return seconds

    def require(self, microversion: str, purpose: str) -> None:
        """See that the service is new enough.

        :raises TooOld: it is not; the text says what it offers
        """
        if not self.offers(microversion):
            raise self._too_old(microversion, purpose, ".".join(map(str, self._offered or ())))

    def greet(self) -> None:
        """See that the service answers at all.

        :raises ServiceProblem: it does not
        """
        self.ask("GET", "/")

    def offers(self, microversion: str) -> bool:
        """Whether the service is as new as that, as far as it says."""
        return self._offered is None or self._offered >= _numbers(microversion)

    @cached_property
    def _offered(self) -> tuple[float, ...] | None:
        """The newest microversion, or None where the service keeps it to itself: then a request will tell."""
        with self._reaching(f" {self._where}"):
            try:
                data = self._link.get_endpoint_data()
            except exceptions.DiscoveryFailure:
                return None
        return tuple(data.max_microversion) if data and data.max_microversion else None

    def read(
        self,
        path: str,
        understand: Callable[[Any], T],
        *,
        microversion: str | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> T:
        """Send a GET.

        :param understand: makes of the document what is returned; see ``clients.documents``
        :raises Refused: 4xx, with the service's own words
        :raises ServiceProblem: no usable answer, after retries
        """
        document = self.ask("GET", path, microversion=microversion, params=params)
        try:
            return understand(document)
        except _MALFORMED as error:
            asked = f"{self.title} {self._where}: GET {path}"
            raise ServiceUnavailable(
                self.name, f"{asked}: answered with a document of another form", answered=True
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
        :raises Refused: 4xx, with the service's own words
        :raises ServiceProblem: no usable answer, after retries
        """
        asked = f"{self.title} {self._where}: {method} {path}"
        options = {} if json is None else {"json": json}
        for _ in range(LOGIN_TRIES):
            try:
                with self._reaching(f" {self._where}: {method} {path}"):
                    answer = self._link.request(
                        path, method, microversion=microversion, params=params, raise_exc=False, **options
                    )
            finally:
                activity.report_answer()
            if answer.status_code != UNAUTHORIZED:
                break
        if answer.status_code >= 400:
            raise self._refusal(answer, asked, microversion)
        if not answer.content:
            return None
        try:
            return answer.json()
        except ValueError as error:
            raise ServiceUnavailable(
                self.name, f"{asked}: answered {answer.status_code} with what is no JSON", answered=True
            ) from error

    def _refusal(self, answer: Response, asked: str, microversion: str | None) -> Exception:
        status = answer.status_code
        code, detail = _words(answer)
        text = f"{asked}: answered {status}{f': {detail}' if detail else ''}"
        if status >= 500:
            return ServiceUnavailable(self.name, text, answered=True)
        if status == 406 and microversion:
            return self._too_old(microversion, asked, "less")
        if status == UNAUTHORIZED:
            why = f"the login of section [{self.name}] of nova.conf is not accepted"
            return RequestForbidden(self.name, f"{text}: {why}", status, code, detail)
        if status == FORBIDDEN:
            why = f"the user of section [{self.name}] lacks a role"
            return RequestForbidden(self.name, f"{text}: {why}", status, code, detail)
        return RequestRefused(self.name, text, status, code, detail)

    def _by_proxy(self, url: str | None) -> str:
        """Words on the proxy that the environment puts before a URL; empty: there is none."""
        proxy = select_proxy(url, get_environ_proxies(url)) if url else None
        return f", by way of the proxy {without_secret(proxy)} of the environment" if proxy else ""

    def _too_old(self, microversion: str, purpose: str, offered: str) -> ServiceTooOld:
        return ServiceTooOld(
            self.name,
            f"{self.title} ({self.place}) is too old: {purpose} needs microversion {microversion}, "
            f"it offers {offered}; upgrade it",
        )

    @contextlib.contextmanager
    def _reaching(self, where: str) -> Iterator[None]:
        """Tell errors of keystoneauth1 in our words.

        :param where: the place, and what was asked
        """
        try:
            yield
        except exceptions.ClientException as error:
            raise self._unreached(error, where) from error
        except _MALFORMED_LOGIN as error:
            raise ServiceMisconfigured(
                self.name,
                f"{self.title}{where}: no way to it with the options of section [{self.name}] of nova.conf: Keystone "
                "or its catalog answered with a document of another form",
            ) from error

    def _unreached(self, error: exceptions.ClientException, where: str) -> Exception:
        """An error of keystoneauth1 in our words; its own may hold URLs."""
        said = " ".join(_without_urls(str(error)).split())[:MAX_DETAIL]
        if isinstance(error, exceptions.Unauthorized):
            return ServiceMisconfigured(
                self.name,
                f"{self.title}{where}: Keystone does not accept the login of section [{self.name}] of nova.conf: "
                f"{said}",
            )
        if isinstance(error, _IDENTITY):
            return ServiceMisconfigured(
                self.name,
                f"{self.title}{where}: no way to it with the options of section [{self.name}] of nova.conf: {said}",
            )
        if isinstance(error, exceptions.SSLError):
            kind = f"TLS fails ({said}); see cafile and insecure in section [{self.name}]"
        elif isinstance(error, exceptions.ConnectTimeout):
            kind = "it does not answer in time"
        else:
            kind = f"no connection: {said}"
        return ServiceUnavailable(self.name, f"{self.title}{where}: {kind}")


def without_secret(url: str) -> str:
    """A URL without user, password and query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}"


def _without_urls(text: str) -> str:
    return re.sub(r"https?://\S+", lambda found: without_secret(found[0]), text.partition(": HTTP")[0])


def _numbers(microversion: str) -> tuple[float, ...]:
    return tuple(int(part) for part in microversion.split("."))


def _words(answer: Response) -> tuple[str, str]:
    """Code and detail of an answer that refuses, in any of the forms that services have."""
    try:
        document = expect_object(answer.json())
        if errors := document.get("errors"):
            error = expect_object(errors[0])
            return str(error.get("code", "")), _short(str(error.get("detail") or error.get("title", "")))
        error = document.get("NeutronError") or document.get("error") or document
        return "", _short(str(error.get("message", "") if isinstance(error, dict) else error))
    except _MALFORMED:
        return "", _short(str(answer.reason or ""))


def _short(text: str) -> str:
    return " ".join(text.split())[:MAX_DETAIL]
