"""Stand-ins of the clouds' token endpoints, and registries that let only their tokens in.

The vendors' own libraries talk to them: the requests and answers are those of their documentation.
"""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.support_behaviours import answers, json_answer, well_behaved

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support_misbehaving import Behaviour, Exchange, Misbehaving

NAME = "team/app"
RULE = {"prefix": NAME}


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def form(exchange: Exchange) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(exchange.seen.body.decode()).items()}


def guard(registry: Misbehaving, challenge: str, admits: Callable[[str], bool]) -> None:
    """The image `NAME`:1.0, for those whose Authorization is admitted; other answers are 401."""
    image = registry.add_image(NAME, "1.0")
    digests = [image.config.digest, *(each.digest for each in image.layers)]
    paths = [f"blobs/{each}" for each in digests]
    paths += ["tags/list", "manifests/1.0", f"manifests/{image.manifest.digest}"]

    def behave(exchange: Exchange) -> None:
        if admits(exchange.seen.headers.get("authorization", "")):
            well_behaved(exchange)
        else:
            answers(401, b"", **{"WWW-Authenticate": challenge})(exchange)

    for path in ["/v2/", *(f"/v2/{NAME}/{each}" for each in paths)]:
        registry.on(path, behave)


def bearer_challenge(registry: Misbehaving, path: str = "/oauth2/token") -> str:
    return f'Bearer realm="http://{registry.host}{path}",service="registry.example"'


def amazon(password: str = "ecr-secret", *, public: bool = False, life: float = 43200.0) -> Behaviour:
    """GetAuthorizationToken; the public registry answers with an object instead of a list."""
    wanted = "SpencerFrontendService" if public else "AmazonEC2ContainerRegistry_V20150921"

    def behave(exchange: Exchange) -> None:
        assert exchange.seen.headers["x-amz-target"] == f"{wanted}.GetAuthorizationToken"
        token = base64.b64encode(f"AWS:{password}".encode()).decode()
        data = {"authorizationToken": token, "expiresAt": time.time() + life}
        json_answer({"authorizationData": data if public else [data]})(exchange)

    return behave


def amazon_refuses(exchange: Exchange) -> None:
    said = "User: arn:aws:sts::1:assumed-role/mirror is not authorized to perform: ecr:GetAuthorizationToken"
    body = json.dumps({"__type": "AccessDeniedException", "message": said}).encode()
    answers(400, body, Content_Type="application/x-amz-json-1.1")(exchange)


def google_token(token: str) -> Behaviour:
    """The token endpoint of Google, for a statement that a service account signed."""

    def behave(exchange: Exchange) -> None:
        assert form(exchange)["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
        json_answer({"access_token": token, "expires_in": 3599, "token_type": "Bearer"})(exchange)

    return behave


def google_key_file(cloud: Misbehaving) -> str:
    """The key file of a service account."""
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    document = {
        "type": "service_account",
        "client_email": "mirror@project.iam",
        "private_key": pem,
        "private_key_id": "1",
        "token_uri": f"http://{cloud.host}/token",
    }
    return json.dumps(document)


def azure_token(name: str = "mirror-app") -> str:
    """As Entra ID makes it, without a signature: nobody here checks it."""
    claims = base64.urlsafe_b64encode(json.dumps({"appid": name}).encode()).rstrip(b"=").decode()
    return f"e30.{claims}.c2ln"


def azure_identity(token: str, life: float = 86400.0) -> Behaviour:
    """The endpoint of a managed identity (App Service, api-version 2019-08-01)."""

    def behave(exchange: Exchange) -> None:
        assert exchange.seen.headers["x-identity-header"] == "header-secret"
        assert exchange.seen.query["resource"] == ["https://containerregistry.azure.net"]
        until = int(time.time() + life)
        json_answer({"access_token": token, "expires_on": str(until), "token_type": "Bearer"})(exchange)

    return behave


def azure_registry(registry: Misbehaving, token: str) -> None:
    """`/oauth2/exchange` and `/oauth2/token` of an Azure registry that knows one identity."""
    guard(registry, bearer_challenge(registry), lambda value: value == "Bearer acr-access")

    def exchange_token(exchange: Exchange) -> None:
        asked = form(exchange)
        assert (asked["grant_type"], asked["service"]) == ("access_token", "registry.example")
        right = asked["access_token"] == token
        (json_answer({"refresh_token": "acr-refresh"}) if right else _denied)(exchange)

    def access_token(exchange: Exchange) -> None:
        asked = form(exchange)
        assert (asked["grant_type"], asked["scope"]) == ("refresh_token", f"repository:{NAME}:pull")
        right = asked["refresh_token"] == "acr-refresh"
        (json_answer({"access_token": "acr-access"}) if right else _denied)(exchange)

    registry.on("/oauth2/exchange", exchange_token)
    registry.on("/oauth2/token", access_token)


def _denied(exchange: Exchange) -> None:
    body: dict[str, Any] = {"errors": [{"code": "UNAUTHORIZED", "message": "no such identity"}]}
    answers(401, json.dumps(body).encode(), Content_Type="application/json")(exchange)
