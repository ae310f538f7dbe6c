"""An OpenID provider over real sockets: discovery, keys that rotate, and tokens, good and bad."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.support_behaviours import json_answer
from tests.support_misbehaving import misbehaving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support_misbehaving import Misbehaving

AUDIENCE = "https://registry.example"
DISCOVERY = "/.well-known/openid-configuration"
_RSA = rsa.generate_private_key(65537, 2048)  # once: it takes a moment
STRANGER = rsa.generate_private_key(65537, 2048)


@dataclass
class Issuer:
    """`keys` by `kid`: private keys, of which the public halves are published."""

    server: Misbehaving
    keys: dict[str, Any] = field(default_factory=lambda: {"k1": _RSA})

    @property
    def url(self) -> str:
        return f"http://{self.server.host}"

    def publish(self, **more: Any) -> None:
        """`more`: of the discovery document."""
        document = {"issuer": self.url, "jwks_uri": f"{self.url}/keys", **more}
        self.server.on(DISCOVERY, json_answer(document))
        self.server.on("/keys", json_answer({"keys": [public(kid, key) for kid, key in self.keys.items()]}))

    def fetches(self) -> int:
        return len(self.server.requests(path="/keys"))

    def token(
        self, *, key: Any = None, algorithm: str = "RS256", kid: str | None = "k1", **claims: Any
    ) -> str:
        """Of `robot`, for an hour; a claim that is None is left out."""
        now = int(time.time())
        said = {"iss": self.url, "sub": "robot", "aud": AUDIENCE, "iat": now, "exp": now + 3600} | claims
        said = {name: value for name, value in said.items() if value is not None}
        headers = {"kid": kid} if kid else {}
        signer = key if key is not None or algorithm == "none" else self.keys.get(kid or "k1", _RSA)
        return jwt.encode(said, signer, algorithm=algorithm, headers=headers)


def public(kid: str, key: Any) -> dict[str, Any]:
    """As a JWK."""
    algorithm: Any = jwt.algorithms.RSAAlgorithm
    if isinstance(key, ec.EllipticCurvePrivateKey):
        algorithm = jwt.algorithms.ECAlgorithm
    found: dict[str, Any] = json.loads(algorithm.to_jwk(key.public_key()))
    return found | {"kid": kid, "use": "sig"}


@contextmanager
def running_issuer() -> Iterator[Issuer]:
    with misbehaving() as server:
        issuer = Issuer(server)
        issuer.publish()
        yield issuer


def http_section(issuer: Issuer, mapping: dict[str, Any] | None = None, **more: Any) -> str:
    """The `http` section of a profile that accepts its tokens, in YAML (JSON is YAML)."""
    oidc = {"issuer": issuer.url, "audiences": [AUDIENCE], "claimMapping": mapping or {}}
    control = {
        "repositories": {
            "team/**": {"policies": [{"groups": ["ci"], "actions": ["read", "create"]}]},
            "**": {"policies": [{"users": ["robot", f"{issuer.url}/robot"], "actions": ["read"]}]},
        }
    }
    auth = {"bearer": {"oidc": [oidc]}, "failDelay": "1ms", **more}
    return f"auth: {json.dumps(auth)}\naccessControl: {json.dumps(control)}"
