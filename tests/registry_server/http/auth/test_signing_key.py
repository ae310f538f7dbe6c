"""The keys of tokens: made once, shared by servers, replaced while they run, and nobody else's to read."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from registry_server.http.auth.access_options import AccessUnusable
from registry_server.http.auth.signing_key import KeyFile
from registry_server.http.server_process import ServerFailed
from tests.registry_server.http.auth.support import AUTH, bearer, guarded, token

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.registries import Registry

NAMED = AUTH.replace("}, failDelay", "}, tokenKeyFile: keys.pem, failDelay")
CONTROL = '\naccessControl: {repositories: {"**": {policies: [{users: [alice], actions: [read]}]}}}'


def _pem(password: bytes | None = None) -> bytes:
    hidden = BestAvailableEncryption(password) if password else NoEncryption()
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden)


def _write(path: Path, *keys: bytes, mode: int = 0o600) -> None:
    """As an operator or Kubernetes does it: another file in its place."""
    path.parent.mkdir(exist_ok=True)
    staged = path.with_suffix(".new")
    staged.write_bytes(b"".join(keys))
    staged.chmod(mode)
    staged.rename(path)


def _is_accepted(registry: Registry, text: str) -> bool:
    return httpx.get(f"{registry.url}/v2/", headers=bearer(text)).status_code == 200


def test_the_store_s_own_key_is_made_once_and_for_the_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "a" / "key.pem"
    made = KeyFile(path, create=True).current()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    again = KeyFile(path, create=True).current()
    assert again.private.private_bytes_raw() == made.private.private_bytes_raw()
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("create", "mode", "is_usable"),
    [
        pytest.param(True, 0o600, True, id="as it is made"),
        pytest.param(True, 0o640, False, id="nobody has to share the store's own"),
        pytest.param(False, 0o440, True, id="a Secret of Kubernetes with an fsGroup"),
        pytest.param(False, 0o644, False, id="everybody could sign"),
        pytest.param(False, 0o660, False, id="a group that writes could sign"),
    ],
)
def test_who_may_read_a_key(tmp_path: Path, mode: int, *, create: bool, is_usable: bool) -> None:
    _write(tmp_path / "key.pem", _pem(), mode=mode)
    if is_usable:
        assert KeyFile(tmp_path / "key.pem", create=create).current().public
        return
    with pytest.raises(AccessUnusable, match="other users can read the token key"):
        KeyFile(tmp_path / "key.pem", create=create)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        pytest.param(lambda: b"not a key", "is not a PEM key without a password", id="no PEM"),
        pytest.param(lambda: _pem(b"password"), "is not a PEM key without a password", id="with a password"),
        pytest.param(
            lambda: generate_ec(SECP256R1()).private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            ),
            "is not an Ed25519 key",
            id="another kind of key",
        ),
        pytest.param(
            lambda: Ed25519PrivateKey.generate().public_key().public_bytes(
                Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
            ),
            "is not a PEM key",
            id="a public key",
        ),
        pytest.param(lambda: _pem() + _pem(b"x"), "is not a PEM key", id="the second one is broken"),
        pytest.param(lambda: _pem() * 9, "holds more than 8 keys", id="each one costs time"),
    ],
)  # fmt: skip
def test_what_is_no_key_is_refused_with_what_to_do(
    tmp_path: Path, content: Callable[[], bytes], complaint: str
) -> None:
    _write(tmp_path / "key.pem", content())
    with pytest.raises(AccessUnusable, match=complaint):
        KeyFile(tmp_path / "key.pem", create=False)


def test_a_named_key_that_is_not_there_is_an_error_before_it_listens(tmp_path: Path) -> None:
    """Made on each host, it would be another one on each."""
    with pytest.raises(ServerFailed, match="openssl genpkey -algorithm ed25519"), guarded(tmp_path, NAMED):
        pass


def test_servers_with_stores_of_their_own_accept_each_other_s_tokens(tmp_path: Path) -> None:
    key = _pem()
    for host in ("one", "two"):
        _write(tmp_path / host / "keys.pem", key)
    with guarded(tmp_path / "one", NAMED + CONTROL) as one, guarded(tmp_path / "two", NAMED + CONTROL) as two:
        for issuer, other in ((one, two), (two, one)):
            assert _is_accepted(other, token(issuer, "alice", "repository:a:pull"))


def test_a_key_is_replaced_without_a_refused_token(tmp_path: Path) -> None:
    """The order that docs/access.md has; `one` is always a step ahead of `two`."""
    old, new = _pem(), _pem()
    hosts = [tmp_path / "one", tmp_path / "two"]
    for host in hosts:
        _write(host / "keys.pem", old)
    with guarded(hosts[0], NAMED + CONTROL, workers=2) as one, guarded(hosts[1], NAMED + CONTROL) as two:
        issued = [token(one, "alice")]
        for keys in ((old, new), (new, old)):
            for host in hosts:
                _write(host / "keys.pem", *keys)
                issued += [token(one, "alice"), token(two, "alice")]
                assert all(_is_accepted(each, text) for text in issued for each in (one, two))
        for host in hosts:
            _write(host / "keys.pem", new)
        assert not _is_accepted(one, issued[0])
        assert _is_accepted(one, issued[-1])


def test_a_key_file_that_breaks_later_on_changes_nothing_and_is_said_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _write(tmp_path / "keys.pem", _pem())
    with guarded(tmp_path, NAMED + CONTROL) as registry:
        text = token(registry, "alice")
        for broken in (b"not a key", None):
            if broken is None:
                (tmp_path / "keys.pem").unlink()
            else:
                _write(tmp_path / "keys.pem", broken)
            assert all(_is_accepted(registry, text) for _ in range(3))
            assert _is_accepted(registry, token(registry, "alice"))
    said = [line for line in capfd.readouterr().err.splitlines() if "remain in use" in line]
    assert len(said) == 2
