"""What can be wrong with a service, in words an operator can act on."""

from typing import Final

CONCURRENT_UPDATE: Final = "placement.concurrent_update"


class ServiceProblem(Exception):
    """A service cannot be used.

    The text names the service, its URL, what was asked, and what it answered. It never holds a password or a token.

    :ivar service: the section of nova.conf that configures it: ``placement``, ``neutron``
    """

    def __init__(self, service: str, text: str) -> None:
        super().__init__(text)
        self.service = service


class ServiceMisconfigured(ServiceProblem):
    """There is no way to the service: no credentials, refused ones, no Keystone, nothing in its catalog."""


class ServiceUnavailable(ServiceProblem):
    """The service does not answer, or answers what nobody can use: 5xx, no JSON.

    :ivar answered: whether there was an answer: then another request may well succeed
    """

    def __init__(self, service: str, text: str, *, answered: bool = False) -> None:
        super().__init__(service, text)
        self.answered = answered


class ServiceTooOld(ServiceProblem):
    """The service does not offer the microversion that the work needs."""


class RequestRefused(ServiceProblem):
    """The service understood the request and said no.

    :ivar status: of HTTP
    :ivar code: Placement's own code of the error, such as ``placement.concurrent_update``; empty where there is none
    :ivar detail: what it said
    """

    def __init__(self, service: str, text: str, status: int, code: str = "", detail: str = "") -> None:
        super().__init__(service, text)
        self.status = status
        self.code = code
        self.detail = detail

    @property
    def is_consumer_conflict(self) -> bool:
        """Whether somebody else has written the same consumer meanwhile: it must be read again."""
        return self.code == CONCURRENT_UPDATE and "consumer generation conflict" in self.detail

    @property
    def is_concurrent(self) -> bool:
        """Whether the same request may well succeed a moment later."""
        return self.code == CONCURRENT_UPDATE and not self.is_consumer_conflict


class RequestForbidden(RequestRefused):
    """The credentials are good, but not for this: 401, 403."""
