"""When the keys of an issuer are fetched, and what of its answers is believed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from registry_server.http.auth.oidc.keys import IssuerUnreachable, KeySet
from registry_server.http.auth.oidc.options import IssuerOptions
from tests.registry_server.http.auth.oidc.issuer import DISCOVERY, running_issuer
from tests.support_behaviours import answers, endless, json_answer, redirects, resets
from tests.tasks.upstream.clients import FakeTime

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.registry_server.http.auth.oidc.issuer import Issuer
    from tests.support_misbehaving import Behaviour


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with running_issuer() as running:
        yield running


class Known:
    """A key set, asked from outside of its event loop."""

    def __init__(self, issuer: Issuer) -> None:
        self.time = FakeTime()
        self.loop = asyncio.new_event_loop()
        self.keys = KeySet(IssuerOptions(issuer.url, ("a",)), self.time.clock)

    def ids(self, key_id: str | None = None) -> list[Any]:
        async def ask() -> list[Any]:
            try:
                return [key["kid"] for key in await self.keys.candidates(key_id)]
            finally:
                if self.keys._renewal is not None:
                    await self.keys._renewal

        return self.loop.run_until_complete(ask())


@pytest.fixture
def known(issuer: Issuer) -> Iterator[Known]:
    found = Known(issuer)
    yield found
    found.loop.close()


def test_an_unknown_key_is_looked_for_once_in_half_a_minute(issuer: Issuer, known: Known) -> None:
    assert known.ids("k1") == ["k1"]
    for number in range(20):
        known.time.sleep(1)
        assert known.ids(f"made-up-{number}") == []
    assert issuer.fetches() == 1
    issuer.keys = {"k2": ec.generate_private_key(ec.SECP256R1())}
    issuer.publish()
    known.time.sleep(30)
    assert known.ids("k2") == ["k2"]
    assert known.ids("k1") == []  # withdrawn by its issuer
    assert issuer.fetches() == 2


def test_keys_are_renewed_each_hour_while_the_old_ones_serve(issuer: Issuer, known: Known) -> None:
    assert known.ids() == ["k1"]
    known.time.sleep(3601)
    issuer.keys = {"k2": issuer.keys["k1"]}
    issuer.publish()
    assert known.ids("k1") == ["k1"]  # the request that noticed
    assert known.ids() == ["k2"]


def test_keys_count_for_a_day_while_the_issuer_is_down(issuer: Issuer, known: Known) -> None:
    assert known.ids() == ["k1"]
    issuer.server.on(DISCOVERY, answers(503))
    known.time.sleep(80_000)
    assert known.ids() == ["k1"]
    known.time.sleep(7_000)
    with pytest.raises(IssuerUnreachable, match="cannot be fetched; try again later"):
        known.ids()


def test_many_requests_at_once_fetch_once(issuer: Issuer, known: Known) -> None:
    async def ask() -> list[Any]:
        return list(await asyncio.gather(*(known.keys.candidates("k1") for _ in range(20))))

    assert len(known.loop.run_until_complete(ask())) == 20
    assert issuer.fetches() == 1


@pytest.mark.parametrize(
    ("path", "behaviour"),
    [
        pytest.param(DISCOVERY, answers(404), id="no document"),
        pytest.param(DISCOVERY, resets, id="a cut connection"),
        pytest.param(DISCOVERY, answers(200, b"<html>"), id="no JSON"),
        pytest.param(DISCOVERY, answers(200, b"[" * 100_000), id="nested deeply"),
        pytest.param(DISCOVERY, endless(), id="an endless document"),
        pytest.param(
            DISCOVERY, json_answer({"issuer": "https://other", "jwks_uri": "/k"}), id="another issuer"
        ),
        pytest.param(DISCOVERY, redirects("http://127.0.0.1:1/"), id="sent elsewhere"),
        pytest.param("/keys", endless(), id="endless keys"),
        pytest.param("/keys", json_answer({"keys": {}}), id="keys that are no list"),
        pytest.param("/keys", redirects("http://127.0.0.1:1/"), id="keys elsewhere"),
    ],
)
def test_an_issuer_that_answers_nonsense_has_no_keys(
    issuer: Issuer, known: Known, path: str, behaviour: Behaviour
) -> None:
    issuer.server.on(path, behaviour)
    with pytest.raises(IssuerUnreachable):
        known.ids("k1")


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://127.0.0.1/keys", 5, "/keys", None])
def test_keys_are_fetched_over_http_only(issuer: Issuer, known: Known, address: object) -> None:
    issuer.publish(jwks_uri=address)
    with pytest.raises(IssuerUnreachable):
        known.ids("k1")


def test_secrets_and_keys_for_encryption_are_no_keys(issuer: Issuer, known: Known) -> None:
    kinds = [{"kty": "oct", "k": "c2VjcmV0", "kid": "o"}, {"kty": "RSA", "use": "enc", "kid": "e"}, "text"]
    issuer.server.on("/keys", json_answer({"keys": kinds}))
    assert known.ids() == []
