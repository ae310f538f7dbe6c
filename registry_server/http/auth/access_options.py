"""What access control needs to know; plain data that can be handed to a child process as a file of JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from registry_server.http.auth.access_rules import AccessRules
from registry_server.http.auth.certificate_options import CertificateOptions
from registry_server.http.auth.oidc.options import IssuerOptions
from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from typing import Any


class AccessUnusable(MirrorflowError):
    """Options, a password file or a key that cannot be used; the message names the file."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """The server issues bearer tokens itself. `key` is made on first use; None: in the store."""

    key: Path | None = None
    service: str = "mirrorflow"  # the audience
    lifetime: float = 300.0  # seconds; clients take anything below 60 for 60


@dataclass(frozen=True, slots=True)
class AccessOptions:
    """Without `htpasswd`, `issuers` and `certificates` nobody can sign in, and all callers are anonymous."""

    policy: AccessRules = field(default_factory=AccessRules)
    htpasswd: Path | None = None
    tokens: Tokens | None = field(default_factory=Tokens)
    fail_delay: float = 2.0  # seconds that a wrong password costs
    external_url: str = ""  # what clients see, where a proxy stands in front
    issuers: tuple[IssuerOptions, ...] = ()
    certificates: CertificateOptions | None = None

    def to_json(self) -> str:
        tokens = self.tokens and {
            "key": _text(self.tokens.key),
            "service": self.tokens.service,
            "lifetime": self.tokens.lifetime,
        }
        document = {
            "policy": self.policy.to_json(),
            "htpasswd": _text(self.htpasswd),
            "tokens": tokens,
            "failDelay": self.fail_delay,
            "externalUrl": self.external_url,
            "issuers": [each.to_json() for each in self.issuers],
            "certificates": self.certificates and self.certificates.to_json(),
        }
        return json.dumps(document)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` made. Raises `AccessUnusable`."""
        try:
            return cls._from_document(json.loads(text))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise AccessUnusable("the access options are not what `AccessOptions.to_json` makes") from error

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises `AccessUnusable`."""
        try:
            return cls.from_json(path.read_text())
        except OSError as error:
            raise AccessUnusable(f"cannot read the access options {path}: {error.strerror}") from error

    @classmethod
    def _from_document(cls, found: dict[str, Any]) -> Self:
        tokens = found["tokens"]
        return cls(
            AccessRules.from_json(found["policy"]),
            _path(found["htpasswd"]),
            tokens and Tokens(_path(tokens["key"]), tokens["service"], tokens["lifetime"]),
            found["failDelay"],
            found["externalUrl"],
            tuple(map(IssuerOptions.from_json, found["issuers"])),
            found["certificates"] and CertificateOptions.from_json(found["certificates"]),
        )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
