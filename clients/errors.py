"""What can be wrong with a service, in words an operator can act on."""

from typing import Final

CONCURRENT_UPDATE: Final = "placement.concurrent_update"


class ServiceProblem(Exception):
    """A service cannot be used.

    The text names the service, its URL, what was asked, and what it answered. It never holds a
    password or a token.

    :ivar service: the section of nova.conf that configures it: ``placement``, ``neutron``
    """

    def __init__(self, service: str, text: str) -> None:
        super().__init__(text)
        self.service = service


class ServiceMisconfigured(ServiceProblem):
    """The service cannot be found: no or refused credentials, no Keystone, no catalog entry."""


class ServiceUnavailable(ServiceProblem):
    """The service does not answer, or its answer cannot be used: 5xx, not JSON.

    :ivar answered: whether there was an answer: then another request may well succeed
    """

    def __init__(self, service: str, text: str, *, answered: bool = False) -> None:
        super().__init__(service, text)
        self.answered = answered


class ServiceTooOld(ServiceProblem):
    """The service does not offer the microversion that the work needs."""


class RequestRefused(ServiceProblem):
    """The service understood the request and said no.

    :ivar status: the HTTP status
    :ivar code: Placement's own error code, such as ``placement.concurrent_update``; may be empty
    :ivar detail: the service's own words
    """

    def __init__(
        self, service: str, text: str, status: int, code: str = "", detail: str = ""
    ) -> None:
        super().__init__(service, text)
        self.status = status
        self.code = code
        self.detail = detail

    @property
    def is_consumer_conflict(self) -> bool:
        """Whether somebody else has written the same consumer meanwhile: read it again."""
        # Placement has one code for all conflicts; only the text tells them apart.
        is_of_consumer = "consumer generation conflict" in self.detail
        return self.code == CONCURRENT_UPDATE and is_of_consumer

    @property
    def is_concurrent(self) -> bool:
        """Whether the same request may well succeed a moment later."""
        return self.code == CONCURRENT_UPDATE and not self.is_consumer_conflict


class RequestForbidden(RequestRefused):
    """The user may not send this request: 401, 403."""
