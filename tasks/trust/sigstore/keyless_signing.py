"""Signing with an identity: Fulcio gives a short-lived certificate, and a transparency log an entry.

This asks the network, unlike everything else about signatures here. sigstore's client does the work. Its
bundle is verified before it is handed on, so that a wrong answer of the log is noticed at once.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from pydantic import ValidationError
from sigstore.dsse import Statement
from sigstore.models import ClientTrustConfig
from sigstore.oidc import IdentityError, IdentityToken, detect_credential
from sigstore.sign import SigningContext
from sigstore.verify import Verifier
from sigstore.verify.policy import UnsafeNoOp

from tasks.trust.errors import TrustError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")

TOKEN: Final = "SIGSTORE_ID_TOKEN"  # noqa: S105 - the name of a variable, which cosign has as well
_TIMEOUT: Final = 60.0


class IdentityUnusable(TrustError):
    """There is no identity to sign with, or not a valid one."""


class KeylessFailed(TrustError):
    """Fulcio, the log or a timestamp authority did not do their part, or the trust config cannot be used."""


@dataclass(frozen=True, slots=True)
class KeylessSigner:
    """Signs with the identity of the process: in CI that of the job. `timeout`: seconds for all answers."""

    config: ClientTrustConfig = field(repr=False)
    timeout: float = _TIMEOUT

    @classmethod
    def connect(cls, config: Path | None) -> KeylessSigner:
        """`config`: a ClientTrustConfig (JSON) of a Sigstore instance of one's own; None: the public one.

        Raises `IdentityUnusable`, `KeylessFailed`.
        """
        identity_token()  # a mistake is seen before the work
        if config is None:
            return cls(_within(_TIMEOUT, "the trust config of Sigstore", ClientTrustConfig.production))
        with _blamed(str(config)):
            return cls(ClientTrustConfig.from_json(config.read_text(encoding="utf-8")))

    def bundle(self, statement: bytes) -> bytes:
        """An in-toto statement, signed: Sigstore bundle v0.3, JSON. Raises as `connect` does."""
        token = identity_token()  # anew: one lasts some minutes, and an audit may take longer
        return _within(self.timeout, "keyless signing", lambda: self._sign(token, statement))

    def _sign(self, token: IdentityToken, statement: bytes) -> bytes:
        context = SigningContext.from_trust_config(self.config)
        with context.signer(token) as signer:
            bundle = signer.sign_dsse(Statement(statement))
        Verifier(trusted_root=self.config.trusted_root).verify_dsse(bundle, UnsafeNoOp())
        return bundle.to_json().encode() + b"\n"


def identity_token() -> IdentityToken:
    """Of the environment: $SIGSTORE_ID_TOKEN, or what the CI system gives. Raises `IdentityUnusable`."""
    try:
        raw = os.environ.get(TOKEN) or detect_credential()
        if raw:
            return IdentityToken(raw)
    except IdentityError as error:
        raise IdentityUnusable(f"the identity token cannot be used: {_first_line(error)}") from error
    raise IdentityUnusable(
        f"there is no identity to sign with; put an OIDC token for the audience 'sigstore' into {TOKEN}, or "
        "let the CI system give one (GitHub: `permissions: {id-token: write}`)"
    )


def _within(seconds: float, what: str, work: Callable[[], T]) -> T:
    """sigstore's client has no time limit. Its thread is abandoned after ours, and ends with the process."""
    done: list[T] = []
    failed: list[KeylessFailed] = []

    def body() -> None:
        try:
            with _blamed(what):
                done.append(work())
        except KeylessFailed as error:
            failed.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not done:
        raise KeylessFailed(f"{what}: not done after {seconds:g} s; is Fulcio or the log down?")
    return done[0]


@contextmanager
def _blamed(what: str) -> Iterator[None]:
    """The client raises what it likes, also errors of requests and pydantic."""
    try:
        yield
    except Exception as error:
        raise KeylessFailed(f"{what}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"[:300]
    said = str(error).strip() or str(error.__cause__ or "").strip() or type(error).__name__
    return said.splitlines()[0][:300]
