"""What can go wrong with the other registry; each message says where, what was found and what to do.

UpstreamError
├── UpstreamDenied              401, 403, or credentials that cannot be had: no retry helps
│   └── UpstreamLoginDenied     its token service refuses us, or it wants a login that we do not have
├── UpstreamNotFound            404
├── UpstreamUnavailable         timeouts, broken connections, 5xx: a retry may help
│   └── UpstreamLimited         429, or a rate limit that is used up
├── UpstreamUntrusted           TLS: its certificate, or ours
├── UpstreamProtocolError       an answer that makes no sense or breaks a limit or a rule of security
├── UpstreamSchema1             a Docker schema 1 manifest, which nobody can verify
└── UpstreamContentError        bytes that are not what was asked for (a `ContentError` too)
Stopped                         somebody asked the run to stop while it waited or read
CredentialsInvalid              a file of credentials or a credential helper that cannot be used
└── CredentialsUnavailable      a token endpoint that does not answer: a retry may help
CertificatesInvalid             a certDir that cannot be used
ProxyInvalid                    a proxy of the environment that cannot be used
"""

from __future__ import annotations

from dataclasses import dataclass

from registry_server.oci.errors import ContentError, MirrorflowError


@dataclass(frozen=True, slots=True)
class Where:
    """What was being talked about: `registry1:5000: library/nginx:1.25`."""

    registry: str
    repository: str = ""
    reference: str = ""

    def __str__(self) -> str:
        if not self.repository:
            return self.registry
        sign = "@" if ":" in self.reference else ":"
        return f"{self.registry}: {self.repository}{sign if self.reference else ''}{self.reference}"


class UpstreamError(MirrorflowError):
    """`status` is the HTTP status where there was one. `at_once` says that trying again within seconds
    is worth it, without the delays of the profile."""

    at_once = False
    code = ""  # of the OCI error body, where there is one: "MANIFEST_BLOB_UNKNOWN"

    def __init__(self, where: Where, reason: str, status: int | None = None) -> None:
        # All of it in `args`: Prefect pickles the errors of tasks.
        super().__init__(where, reason, status)
        self.where = where
        self.reason = reason
        self.status = status

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"

    def explain(self, reason: str) -> None:
        """Say it better."""
        self.reason = reason
        self.args = (self.where, reason, self.status)

    @property
    def registry(self) -> str:
        return self.where.registry

    @property
    def repository(self) -> str:
        return self.where.repository

    @property
    def reference(self) -> str:
        return self.where.reference


class UpstreamDenied(UpstreamError):
    """Public registries also answer so for what does not exist."""


class UpstreamLoginDenied(UpstreamDenied):
    """Asking for something else gives no better answer, and a password that is wrong is sent once."""


class UpstreamNotFound(UpstreamError):
    pass


class UpstreamUnavailable(UpstreamError):
    """`retry_after` is in seconds, None when the registry did not say."""

    retryable = True

    def __init__(
        self,
        where: Where,
        reason: str,
        status: int | None = None,
        *,
        at_once: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(where, reason, status)
        self.at_once = at_once
        self.retry_after = retry_after


class UpstreamLimited(UpstreamUnavailable):
    """`at_once` is not set where it is a pull limit that is used up: seconds do not help."""


class UpstreamUntrusted(UpstreamError):
    pass


class UpstreamProtocolError(UpstreamError):
    pass


class UpstreamSchema1(UpstreamError):
    pass


class UpstreamContentError(UpstreamError, ContentError):
    pass


class Stopped(MirrorflowError):
    def __init__(self, message: str = "stopped: the run was asked to end") -> None:
        super().__init__(message)


class CredentialsInvalid(MirrorflowError):
    pass


class CredentialsUnavailable(CredentialsInvalid):
    retryable = True


class CertificatesInvalid(MirrorflowError):
    pass


class ProxyInvalid(MirrorflowError):
    pass


BROKEN = (ContentError, UpstreamSchema1, UpstreamProtocolError)
"""Content of an upstream that no client can use. A network that fails, or a registry that refuses, is not."""
