"""Whom we trust, and who we are, over real TLS."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tasks.upstream.connection.tls import Contexts, make_context, standard_dirs
from tasks.upstream.errors import (
    CertificatesInvalid,
    Stopped,
    UpstreamProtocolError,
    UpstreamUnavailable,
    UpstreamUntrusted,
)
from tests.support.certificates import Authority, KeyPair
from tests.support_behaviours import hangs_in_body, redirects, truncated
from tests.support_misbehaving import misbehaving, well_behaved
from tests.tasks.upstream.clients import RealTime, client
from tests.tasks.upstream.connection.cert_dirs import cert_dir
from tests.tasks.upstream.sinks import MemorySink

if TYPE_CHECKING:
    from collections.abc import Iterator

from tests.support_misbehaving import Misbehaving

NAME = "library/nginx"
BIG = b"0123456789abcdef" * 4 * 65536 * 2 + b"end"  # 8 MiB and a bit: the fast path


def server_context(pair: KeyPair, client_ca: Path | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def secure(authority: Authority) -> Iterator[Misbehaving]:
    with misbehaving(context=server_context(authority.server())) as upstream:
        upstream.add_image(NAME, "1.25", layers=(BIG,))
        yield upstream


@pytest.fixture
def strict(authority: Authority) -> Iterator[Misbehaving]:
    """Wants a client certificate."""
    context = server_context(authority.server(), client_ca=authority.cert)
    with misbehaving(context=context) as upstream:
        upstream.add_image(NAME, "1.25")
        yield upstream


def test_a_ca_in_cert_dir_is_trusted(secure: Misbehaving, authority: Authority, tmp_path: Path) -> None:
    folder = cert_dir(tmp_path / "certs", authority.cert)
    with client(secure, scheme="https", cert_dir=folder) as registry:
        assert registry.tags(NAME) == ["1.25"]


def test_cert_dir_may_have_a_folder_for_each_host(
    secure: Misbehaving, authority: Authority, tmp_path: Path
) -> None:
    cert_dir(tmp_path / secure.host, authority.cert)
    with client(secure, scheme="https", cert_dir=tmp_path) as registry:
        assert registry.tags(NAME) == ["1.25"]


@pytest.mark.parametrize("content", [BIG, b"small"], ids=["fast path", "small"])
def test_blobs_come_over_tls_and_go_on_where_they_broke_off(
    secure: Misbehaving, authority: Authority, tmp_path: Path, content: bytes
) -> None:
    blob = secure.add_blob(NAME, content)
    secure.on(f"/v2/{NAME}/blobs/{blob.digest}", truncated(content, at=3), well_behaved)
    sink = MemorySink()
    folder = cert_dir(tmp_path / "certs", authority.cert)
    with client(secure, scheme="https", cert_dir=folder) as registry:
        assert registry.blob(NAME, blob, sink) == len(content)
    assert sink.content == content
    assert secure.seen[1].headers["range"] == "bytes=3-"


def test_silence_over_tls_is_noticed(secure: Misbehaving, authority: Authority, tmp_path: Path) -> None:
    blob = secure.add_blob(NAME, BIG)
    secure.on(f"/v2/{NAME}/blobs/{blob.digest}", hangs_in_body(BIG, at=100_000))
    folder = cert_dir(tmp_path / "certs", authority.cert)
    sink = MemorySink()
    with (
        client(secure, scheme="https", cert_dir=folder, read_timeout=0.3, time=RealTime()) as registry,
        pytest.raises(UpstreamUnavailable, match=r"no byte for 0\.3 s \(readTimeout\)"),
    ):
        registry.blob(NAME, blob, sink)
    assert sink.content == BIG[:100_000]


def test_a_stop_over_tls_is_noticed(secure: Misbehaving, authority: Authority, tmp_path: Path) -> None:
    blob = secure.add_blob(NAME, BIG)
    secure.on(f"/v2/{NAME}/blobs/{blob.digest}", hangs_in_body(BIG, at=100_000))
    folder = cert_dir(tmp_path / "certs", authority.cert)
    sink = MemorySink()
    enough: dict[str, Any] = {"cancelled": lambda: len(sink.content) >= 100_000, "time": RealTime()}
    with client(secure, scheme="https", cert_dir=folder, **enough) as registry, pytest.raises(Stopped):
        registry.blob(NAME, blob, sink)


def test_an_unknown_ca_names_cert_dir_and_tls_verify(secure: Misbehaving) -> None:
    with client(secure, scheme="https") as registry, pytest.raises(UpstreamUntrusted) as caught:
        registry.tags(NAME)
    assert "certDir" in str(caught.value)
    assert "tlsVerify: false" in str(caught.value)
    assert str(caught.value).startswith(f"{secure.host}: {NAME}: its certificate is not trusted (")
    assert not caught.value.retryable


def test_tls_verify_false_trusts_anybody(secure: Misbehaving) -> None:
    with client(secure, scheme="https", tls_verify=False) as registry:
        assert registry.tags(NAME) == ["1.25"]


def test_a_client_certificate_is_shown(strict: Misbehaving, authority: Authority, tmp_path: Path) -> None:
    folder = cert_dir(tmp_path / "certs", authority.cert, authority.client())
    with client(strict, scheme="https", cert_dir=folder) as registry:
        assert registry.tags(NAME) == ["1.25"]


@pytest.mark.parametrize("folder_of_its_own", [False, True])
def test_a_redirect_to_another_host_sees_no_client_certificate_of_the_registry(
    *,
    secure: Misbehaving,
    strict: Misbehaving,
    authority: Authority,
    tmp_path: Path,
    folder_of_its_own: bool,
) -> None:
    """It trusts the CA of certDir; a certificate for it stands in the folder with its name."""
    blob = strict.add_blob(NAME, b"layer")
    path = f"/v2/{NAME}/blobs/{blob.digest}"
    secure.on(path, redirects(f"https://{strict.host}{path}"))
    folder = cert_dir(tmp_path / "certs", authority.cert, authority.client())
    if folder_of_its_own:
        cert_dir(folder / strict.host, authority.cert, authority.client())
    sink = MemorySink()
    with client(secure, scheme="https", cert_dir=folder) as registry:
        if folder_of_its_own:
            registry.blob(NAME, blob, sink)
            assert sink.content == b"layer"
            return
        with pytest.raises(UpstreamUntrusted, match="requires a client certificate"):
            registry.blob(NAME, blob, sink)


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("registry.example", True),
        ("REGISTRY.example:443", True),
        ("mirror.example:5000", True),
        ("registry.example:444", False),
        ("mirror.example", False),
        ("cdn.registry.example", False),
    ],
)
def test_the_client_certificate_is_for_the_hosts_of_the_entry(
    tmp_path: Path, host: str, *, shown: bool
) -> None:
    (tmp_path / "client.cert").write_text("nonsense")
    (tmp_path / "client.key").write_text("nonsense")
    contexts = Contexts(tmp_path, verify=True, hosts=["Registry.example:443", "mirror.example:5000"])
    if not shown:
        contexts.for_host(host)
        return
    with pytest.raises(CertificatesInvalid):
        contexts.for_host(host)


def test_a_missing_client_certificate_says_what_to_put_where(
    strict: Misbehaving, authority: Authority, tmp_path: Path
) -> None:
    folder = cert_dir(tmp_path / "certs", authority.cert)
    with (
        client(strict, scheme="https", cert_dir=folder) as registry,
        pytest.raises(UpstreamUntrusted, match=r"requires a client certificate .* NAME\.cert and NAME\.key"),
    ):
        registry.tags(NAME)


def test_https_to_a_port_without_tls_says_so(upstream: Misbehaving) -> None:
    with (
        client(upstream, scheme="https", tls_verify=False) as registry,
        pytest.raises(UpstreamProtocolError, match="no TLS on this port"),
    ):
        registry.tags(NAME)


def test_a_client_certificate_belongs_to_its_key(authority: Authority, tmp_path: Path) -> None:
    folder = cert_dir(tmp_path, client=authority.client("one"))
    (folder / "client.key").write_bytes(authority.client("two").key.read_bytes())
    with pytest.raises(CertificatesInvalid, match=r"client\.cert and client\.key"):
        make_context(folder)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["client.cert"], "has client.cert, but no client.key; add it"),
        (["client.key"], "has client.key, but no client.cert; add it"),
        (["a.cert", "a.key", "b.cert"], "has b.cert, but no b.key; add it"),
        (["ca.crt"], "ca.crt is not a readable CA certificate"),
        (["a.cert", "a.key"], "a.cert and a.key"),
        (["a.cert", "b.key"], "a.cert and b.key"),
        (["readme.txt"], ""),
    ],
    ids=str,
)
def test_a_cert_dir_that_is_not_right_says_why(tmp_path: Path, files: list[str], message: str) -> None:
    for name in files:
        (tmp_path / name).write_text("nonsense")
    if not message:
        make_context(tmp_path)
        return
    with pytest.raises(CertificatesInvalid, match=re.escape(message)):
        make_context(tmp_path)


def test_a_cert_dir_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(CertificatesInvalid, match="there is no folder"):
        Contexts(tmp_path / "gone", verify=True)


def test_a_key_with_a_password_never_asks_for_it(tmp_path: Path, authority: Authority) -> None:
    from cryptography.hazmat.primitives import serialization

    pair = authority.client("locked")
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )
    folder = cert_dir(tmp_path, client=pair)
    (folder / "client.key").write_bytes(locked)
    with pytest.raises(CertificatesInvalid, match="without a password"):
        make_context(folder)


@pytest.mark.parametrize("name", ["registry.example:5000", "registry.example_5000_"])
def test_standard_folders_are_looked_into(tmp_path: Path, authority: Authority, name: str) -> None:
    cert_dir(tmp_path / name, authority.cert)
    contexts = Contexts(None, verify=True, standard=[tmp_path / "gone", tmp_path])
    ours = contexts.for_host("registry.example:5000")
    assert ours is not contexts.for_host("other.example:5000")
    assert (
        ours.cert_store_stats()["x509"]
        == contexts.for_host("other.example:5000").cert_store_stats()["x509"] + 1
    )


def test_hosts_without_a_folder_share_one_context() -> None:
    contexts = Contexts(None, verify=True)
    assert contexts.for_host("a") is contexts.for_host("b:5000")


def test_the_standard_folders_are_those_of_docker_and_podman(tmp_path: Path) -> None:
    found = standard_dirs({"HOME": str(tmp_path)})
    assert tmp_path / ".config/containers/certs.d" in found
    assert Path("/etc/docker/certs.d") in found
