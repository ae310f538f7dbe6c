"""Fulcio and Rekor (v1) as HTTP servers: what keyless signing talks to, over the world of sig_fixture.py."""

from __future__ import annotations

import base64
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.tasks.trust.material import fixture_module
from tests.tasks.trust.world import ISSUER, SUBJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Answer = tuple[int, dict[str, Any]]


@dataclass
class Services:
    """One world; `fulcio` and `rekor` answer a request's JSON, and a test may put others in their place."""

    url: str = ""
    tokens: list[str] = field(default_factory=list)  # that Fulcio was shown
    closing: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        # The fixture signs an hour before the time that it is given.
        self.world = fixture_module().FakeSigstore(datetime.now(UTC) + timedelta(hours=1))
        self.fulcio: Callable[[dict[str, Any]], Answer] = self.certify
        self.rekor: Callable[[dict[str, Any]], Answer] = self.log

    def certify(self, request: dict[str, Any], **leaf: Any) -> Answer:
        """Fulcio, POST /api/v2/signingCert."""
        csr = x509.load_pem_x509_csr(base64.b64decode(request["certificateSigningRequest"]))
        _, certificate = self.world.leaf(SUBJECT, ISSUER, key=csr, **leaf)
        chain = [each.public_bytes(Encoding.PEM).decode() for each in (certificate, *self._authorities())]
        return 200, {"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}}

    def _authorities(self) -> tuple[x509.Certificate, x509.Certificate]:
        return self.world.int, self.world.root

    def log(self, request: dict[str, Any]) -> Answer:
        """Rekor v1, POST /api/v1/log/entries with a `dsse` entry."""
        proposed = request["spec"]["proposedContent"]
        envelope = json.loads(proposed["envelope"])
        payload = base64.b64decode(envelope["payload"])
        signature = base64.b64decode(envelope["signatures"][0]["sig"])
        verifier = base64.b64decode(proposed["verifiers"][0])
        body = self.world.body_dsse(proposed["envelope"].encode(), payload, signature, verifier)
        return 201, {"24296fb24b8ad77a": _rekor_json(self.world.tlog_entry(body, "dsse", "0.0.1"))}

    def hang(self, _request: dict[str, Any]) -> Answer:
        self.closing.wait(60)
        return 503, {}

    def trust_config(self, folder: Path) -> Path:
        """A ClientTrustConfig v0.1 with a signing config v0.2 (sigstore protobuf-specs, trustroot.proto)."""
        valid = {"start": "2020-01-01T00:00:00Z"}
        service = {"majorApiVersion": 1, "operator": "fixture.test", "validFor": valid, "url": self.url}
        document = {
            "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
            "trustedRoot": self.world.trusted_root(),
            "signingConfig": {
                "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
                "caUrls": [service],
                "rekorTlogUrls": [service],
                "rekorTlogConfig": {"selector": "ANY"},
                "tsaConfig": {"selector": "ANY"},
            },
        }
        path = folder / "sigstore.json"
        path.write_text(json.dumps(document))
        return path

    def trusted_root(self, folder: Path) -> Path:
        path = folder / "trusted_root.json"
        path.write_text(json.dumps(self.world.trusted_root()))
        return path


def _rekor_json(entry: dict[str, Any]) -> dict[str, Any]:
    """A log entry of a bundle as Rekor's own API has it: hexadecimal, and numbers."""
    proof = entry["inclusionProof"]
    return {
        "body": entry["canonicalizedBody"],
        "integratedTime": int(entry["integratedTime"]),
        "logID": base64.b64decode(entry["logId"]["keyId"]).hex(),
        "logIndex": int(entry["logIndex"]),
        "verification": {
            "signedEntryTimestamp": entry["inclusionPromise"]["signedEntryTimestamp"],
            "inclusionProof": {
                "logIndex": int(proof["logIndex"]),
                "treeSize": int(proof["treeSize"]),
                "rootHash": base64.b64decode(proof["rootHash"]).hex(),
                "hashes": [base64.b64decode(each).hex() for each in proof["hashes"]],
                "checkpoint": proof["checkpoint"]["envelope"],
            },
        },
    }


def identity_token(lasts: float = 600, **claims: Any) -> str:
    """As an OIDC provider gives it, but for the signature, at which clients do not look."""
    now = int(datetime.now(UTC).timestamp())
    content = {"iss": ISSUER, "sub": SUBJECT, "aud": "sigstore", "iat": now - 5, "exp": now + lasts, **claims}
    parts = ({"alg": "RS256", "typ": "JWT"}, content)
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, "c2lnbmF0dXJl"])


@contextmanager
def running_services() -> Iterator[Services]:
    services = Services()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/api/v2/signingCert":
                services.tokens.append(self.headers["Authorization"])
                self._answer(services.fulcio(request))
            else:
                self._answer(services.rekor(request))

        def _answer(self, answer: Answer) -> None:
            status, document = answer
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    services.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield services
    finally:
        services.closing.set()
        server.shutdown()
        server.server_close()
