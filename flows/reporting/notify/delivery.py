"""One try to deliver a message by HTTP. What is posted is signed as Standard Webhooks 1.0 says.

The address of a receiver may be a secret (those of Slack and Teams are), so no message shows more of it than
the host.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
import ssl
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import httpx

from flows.receiver.call_options import SecretUnusable, read_secret
from profiles.errors import Refusal
from profiles.model.notify import check_webhook_url
from registry_server.oci.errors import MirrorflowError
from tasks.upstream.connection.addresses import Nearness, nearness
from tasks.upstream.connection.proxies import Proxies

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flows.reporting.notify.told import Message
    from profiles.model.notify import NotifyReceiver

_PREFIX: Final = b"whsec_"
_SHORTEST_SECRET: Final = 16


class NotDelivered(MirrorflowError):
    """A receiver of notifications did not take a message. The next try may do better."""

    retryable = True


class ReceiverUnusable(MirrorflowError):
    """What the profile says of a receiver does not lead to a URL or a secret."""


def post(
    receiver: NotifyReceiver,
    message: Message,
    content: tuple[str, bytes],
    *,
    now: float,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """`content`: media type and body; `now` in Unix seconds.

    Raises `NotDelivered`, `ReceiverUnusable`, `SecretUnusable`.
    """
    url = url_of(receiver, environment)
    media_type, body = content
    headers = {"Content-Type": media_type, "User-Agent": "mirrorflow", "webhook-id": message.id}
    headers["webhook-timestamp"] = stamp = str(int(now))
    if secret := _secret(receiver, environment):
        headers["webhook-signature"] = signature(secret, message.id, stamp, body)
    where = f"notify {receiver.name}: {_shown(url)}"
    try:
        proxy = Proxies.read(environment).proxy_for(httpx.URL(url))
        status = asyncio.run(_status(url, headers, body, receiver.timeout, proxy))
    except TimeoutError:
        raise NotDelivered(f"{where} did not answer within {receiver.timeout:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:  # the last of a host's name
        raise NotDelivered(f"{where} cannot be reached: {_why(error)}") from None
    if 300 <= status < 400:
        raise NotDelivered(f"{where} redirects ({status}), which is not followed; write the final URL")
    if not 200 <= status < 300:
        raise NotDelivered(f"{where} answered with status {status}")


def signature(secret: bytes, name: str, stamp: str, body: bytes) -> str:
    """The header `webhook-signature`: HMAC-SHA256 over `<id>.<timestamp>.<body>`.

    A secret that begins with `whsec_` is base64; of others the bytes count.
    """
    key = secret
    if secret.startswith(_PREFIX):
        try:
            key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            raise SecretUnusable("a secret begins with whsec_, and what follows is not base64") from None
    signed = b".".join((name.encode(), stamp.encode(), body))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def url_of(receiver: NotifyReceiver, environment: Mapping[str, str]) -> str:
    """From the profile, a file or the environment. Raises `ReceiverUnusable`, `SecretUnusable`."""
    if receiver.url is not None:
        return receiver.url
    if receiver.url_file is not None:
        place = f"notify {receiver.name}: the URL in {receiver.url_file}"
        text = read_secret(receiver.url_file, f"urlFile of notify {receiver.name}").decode(errors="replace")
    else:
        place = f"notify {receiver.name}: the URL in the variable {receiver.url_variable}"
        text = environment.get(receiver.url_variable or "", "").strip()
    try:
        return check_webhook_url(text)
    except Refusal as refusal:
        raise ReceiverUnusable(f"{place}: {refusal.found}; {refusal.write}") from None


def _secret(receiver: NotifyReceiver, environment: Mapping[str, str]) -> bytes:
    """b"" where nothing is to be signed."""
    if receiver.secret_file is not None:
        key = f"secretFile of notify {receiver.name}"
        return read_secret(receiver.secret_file, key, shortest=_SHORTEST_SECRET)
    if receiver.secret_variable is None:
        return b""
    secret = environment.get(receiver.secret_variable, "").strip().encode()
    if len(secret) < _SHORTEST_SECRET:
        raise ReceiverUnusable(
            f"notify {receiver.name}: the variable {receiver.secret_variable} has {len(secret)} characters; "
            "a secret needs 16 or more"
        )
    return secret


async def _status(
    url: str, headers: Mapping[str, str], body: bytes, seconds: float, proxy: httpx.URL | None
) -> int:
    """All of it takes `seconds` at most, however slowly bytes arrive. The body of the answer is not read."""
    async with (
        asyncio.timeout(seconds),
        httpx.AsyncClient(
            verify=ssl.create_default_context(), proxy=proxy, timeout=seconds, trust_env=False
        ) as client,
        client.stream(
            "POST", url, content=body, headers=dict(headers), extensions={"trace": refuse_link_local}
        ) as answer,
    ):
        return answer.status_code


async def refuse_link_local(event: str, info: dict[str, Any]) -> None:
    """For httpx's `trace` extension: nothing is sent to where clouds keep their credentials.

    Which of the other addresses to use is the operator's choice: many receivers are in a private network.
    """
    if event == "connection.connect_tcp.complete":
        stream = info["return_value"]
        if nearness(str(stream.get_extra_info("server_addr")[0])) is Nearness.FORBIDDEN:
            await stream.aclose()
            raise httpx.ConnectError("a link-local address")


def _why(error: Exception) -> str:
    """What an error of the connection says; it may name the host, and has never seen the path."""
    return str(error) or type(error).__name__


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
