"""Each case of the table is mirrored, or refused; and nobody sees a login that is another's."""

from __future__ import annotations

import json
import re
import ssl
from typing import TYPE_CHECKING

import pytest

from tests.in_the_wild.cases.logins import APP, CASES, everywhere
from tests.support.certificates import Authority
from tests.support_behaviours import redirects
from tests.support_misbehaving import misbehaving
from tests.tasks.runs import mirror, opened, visible
from tests.tasks.upstream.login.test_auth import BASIC, needs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.in_the_wild.cases.logins import Case
    from tests.support_misbehaving import Exchange, Misbehaving

LITERAL = {"prefix": APP}


@pytest.fixture
def other() -> Iterator[Misbehaving]:
    """Another host, as far as anybody can tell: another address of this machine."""
    with misbehaving("127.0.0.2") as server:
        yield server


def log_in(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    auths = {host: {"username": "alice", "password": "s3cret"} for host in hosts}
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", json.dumps({"auths": auths}))


def told(server: Misbehaving) -> frozenset[str]:
    return frozenset(_told(server))


def _told(server: Misbehaving) -> Iterator[str]:
    return (each.headers["authorization"] for each in server.seen if "authorization" in each.headers)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_login_goes_where_it_belongs(
    case: Case,
    tmp_path: Path,
    upstream: Misbehaving,
    other: Misbehaving,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case.arrange(upstream, other)
    if case.login:
        log_in(monkeypatch, upstream.host, other.host)
    entry = json.loads(json.dumps(dict(case.entry)).replace("{other}", other.host))
    with opened(tmp_path, f"http://{upstream.host}", LITERAL, **entry) as run:
        report = mirror(run)
        assert visible(run.store) == ([] if case.problem else [f"{APP}:1"]), report
    said = " | ".join([*report.problems, *(image.reason for image in report.images if case.problem)])
    assert re.search(case.problem, said), said
    assert "s3cret" not in json.dumps(report.to_json())
    expected = case.told if case.login else case.told - {BASIC}
    assert (told(upstream), told(other)) == (expected, case.told_elsewhere)
    asked = [each for host in (upstream, other) for each in host.requests(path="/token")]
    scopes = [each.query["scope"][0] for each in asked if each.path == "/token"]
    assert tuple(scopes[: len(case.scopes)]) == case.scopes


def test_http_that_redirects_to_https_of_its_host_keeps_the_login(
    tmp_path: Path, upstream: Misbehaving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No password is sent before TLS is there: the challenge is that of the origin behind the redirect."""
    (tmp_path / "ca").mkdir()
    authority = Authority(tmp_path / "ca")
    pair = authority.server()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    log_in(monkeypatch, upstream.host)
    with misbehaving(context=context) as secure:

        def moved(exchange: Exchange) -> None:
            redirects(f"https://{secure.host}{exchange.seen.target}", 301)(exchange)

        everywhere(upstream, moved)
        everywhere(secure, needs(BASIC, 'Basic realm="here"'))
        with opened(tmp_path, f"http://{upstream.host}", LITERAL, tlsVerify=False) as run:
            assert mirror(run).complete
        assert told(upstream) == frozenset()
        assert told(secure) == {BASIC}
