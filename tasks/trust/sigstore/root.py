"""Sigstore trust roots: the CAs, logs and timestamp authorities that a policy believes.

They are files, or the ones that come with the installed sigstore; nothing is fetched.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal

from sigstore.models import TrustedRoot
from sigstore_models.trustroot import v1 as models

from tasks.trust.authorities.keys import TrustedKey, spki
from tasks.trust.errors import Refused, TrustBroken, TrustError, in_short

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.trust.sigstore.adapter import CheckingVerifier

Builtin = Literal["production", "staging"]
# A private path of sigstore's wheel: a test holds that it is there. The TUF client would write into $HOME
# and prefer what it once wrote there.
_STORES: Final = {
    "production": "https%3A%2F%2Ftuf-repo-cdn.sigstore.dev",
    "staging": "https%3A%2F%2Ftuf-repo-cdn.sigstage.dev",
}
_MEDIA_TYPE: Final = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"


@dataclass(frozen=True, slots=True)
class Window:
    """When a key or CA is to be believed; both ends belong to it (sigstore-conformance)."""

    start: datetime | None
    end: datetime | None

    def holds(self, when: datetime) -> bool:
        return (self.start is None or self.start <= when) and (self.end is None or when <= self.end)


@dataclass(frozen=True)
class SigstoreRoot:
    """One trust root. `logs` are the windows of its transparency logs by log id (32 bytes)."""

    root: TrustedRoot = field(repr=False)
    logs: dict[bytes, Window] = field(repr=False)

    @classmethod
    def from_json(cls, content: bytes) -> SigstoreRoot:
        """From `trusted_root.json`, or a client trust config with one in it. Raises `TrustBroken`."""
        try:
            document = json.loads(content)
            document = document.get("trustedRoot", document)
            inner = models.TrustedRoot.from_json(json.dumps(_completed(document)).encode())
            return cls(TrustedRoot(_with_inclusive_ends(inner)), _log_windows(inner))
        except Exception as error:
            raise TrustBroken(f"not a Sigstore trust root ({in_short(error)})") from error

    @classmethod
    def builtin(cls, name: Builtin) -> SigstoreRoot:
        """What the installed sigstore trusts. Raises `TrustBroken`."""
        try:
            place = importlib.resources.files("sigstore._store") / _STORES[name] / "trusted_root.json"
            return cls.from_json(place.read_bytes())
        except (OSError, ModuleNotFoundError) as error:
            raise TrustBroken(f"the installed sigstore has no built-in root {name!r}") from error

    @classmethod
    def from_rekor_keys(cls, pems: Sequence[bytes]) -> SigstoreRoot:
        """A root that only knows logs: enough for signatures by keys. Raises `TrustBroken`."""
        return cls.from_json(json.dumps({"tlogs": [_log(pem) for pem in pems]}).encode())

    @cached_property
    def verifier(self) -> CheckingVerifier:
        """Raises `Refused` when the root has no CA or no log."""
        from tasks.trust.sigstore.adapter import CheckingVerifier

        try:
            return CheckingVerifier(trusted_root=self.root)
        except Exception as error:
            raise Refused(f"the trust root is not for keyless signatures ({in_short(error)})") from error

    @cached_property
    def timestamp_authorities(self) -> bool:
        """Whether it can verify RFC 3161 timestamps."""
        return bool(self.root.get_timestamp_authorities())

    def check_log(self, log_id: bytes, when: datetime | None) -> None:
        """sigstore takes a log id as a hint and its key for ever; here it is one of ours, at that time.

        Raises `Refused`.
        """
        window = self.logs.get(log_id)
        if window is None:
            raise Refused("the transparency log is not one that the trust root names")
        if when is not None and not window.holds(when):
            raise Refused(f"the transparency log's key was not in use at {when:%Y-%m-%d %H:%M}")


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    """sigstore's model needs keys that GitHub's and sigstore-go's roots leave out."""
    document = {"mediaType": _MEDIA_TYPE, **document}
    for key in ("tlogs", "certificateAuthorities", "ctlogs", "timestampAuthorities"):
        document.setdefault(key, [])
    for authority in [*document["certificateAuthorities"], *document["timestampAuthorities"]]:
        subject = authority.setdefault("subject", {})
        subject.setdefault("organization", "")
        subject.setdefault("commonName", "")
    return document


def _with_inclusive_ends(inner: models.TrustedRoot) -> models.TrustedRoot:
    """sigstore 4.5 takes the end of a timestamp authority's window as exclusive; it belongs to the window."""
    for authority in inner.timestamp_authorities or []:
        if authority.valid_for.end is not None:
            authority.valid_for.end += timedelta(microseconds=1)
    return inner


def _log_windows(inner: models.TrustedRoot) -> dict[bytes, Window]:
    windows: dict[bytes, Window] = {}
    for log in inner.tlogs:
        if not log.public_key.raw_bytes:
            raise TrustError("a log without a key")
        valid = log.public_key.valid_for
        window = Window(valid.start if valid else None, valid.end if valid else None)
        windows[hashlib.sha256(log.public_key.raw_bytes).digest()] = window
        windows[bytes(log.log_id.key_id)] = window
    return windows


def _log(pem: bytes) -> dict[str, Any]:
    der = spki(TrustedKey.from_pem(pem).key)
    return {
        "baseUrl": "https://log.invalid",
        "hashAlgorithm": "SHA2_256",
        "publicKey": {
            "rawBytes": base64.b64encode(der).decode(),
            "keyDetails": "PKIX_ECDSA_P256_SHA_256",
            "validFor": {"start": datetime.fromtimestamp(0, UTC).isoformat()},
        },
        "logId": {"keyId": base64.b64encode(hashlib.sha256(der).digest()).decode()},
    }
