"""Users by their certificates: behind a real nginx that checks them, and what of a certificate names whom."""

from __future__ import annotations

import base64
import datetime as dt
import socket
import ssl
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID, NameOID

from registry_server.http.auth.access_options import AccessOptions
from registry_server.http.auth.certificate_options import CertificateOptions
from registry_server.http.auth.client_certificates import CertificateReader, CertificateRefused
from tests.conftest import require_program
from tests.profiles.support import problems
from tests.registry_server.http.auth.support import USERS, guarded, options_of
from tests.support.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.registries import Registry

_SECTION = """\
trustedProxies: [127.0.0.2]
auth: {htpasswd: {path: htpasswd}, mtls: {identityAttributes: [CN]}, failDelay: 1ms}
accessControl: {repositories: {"**": {policies: [{users: [robot, alice], actions: [read]}]}}}
"""
_NGINX = """\
daemon off; pid nginx.pid; error_log error.log warn;
events {{}}
http {{
  access_log off; client_body_temp_path b; proxy_temp_path p;
  fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {server.cert}; ssl_certificate_key {server.key};
    ssl_client_certificate {authority}; ssl_verify_client optional;
    location / {{
      proxy_pass {upstream}; proxy_bind 127.0.0.2; proxy_set_header Host $http_host;
      proxy_set_header Client-Cert $ssl_client_escaped_cert;
    }}
  }}
}}
"""


@contextmanager
def behind_nginx(folder: Path, registry: Registry, authority: Authority) -> Iterator[str]:
    """The address of an nginx that reaches the registry from 127.0.0.2."""
    program = require_program("nginx")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    text = _NGINX.format(
        port=port, server=authority.server(), authority=authority.cert, upstream=registry.url
    )
    (folder / "main.conf").write_text(text)
    command = [program, "-p", str(folder), "-c", "main.conf", "-e", "error.log"]
    nginx = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert nginx.poll() is None, (folder / "error.log").read_text()
        yield f"https://127.0.0.1:{port}"
    finally:
        nginx.terminate()
        nginx.wait(30)


def client_of(authority: Authority, name: str = "") -> httpx.Client:
    """One that shows a certificate of this name."""
    context = ssl.create_default_context(cafile=str(authority.cert))
    if name:
        pair = authority.client(name)
        context.load_cert_chain(pair.cert, pair.key)
    return httpx.Client(verify=context)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("certificates")
    with guarded(folder, _SECTION, trusted_proxies=("127.0.0.2",)) as running:
        yield running


def test_a_certificate_that_nginx_has_checked_names_the_user(registry: Registry, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with behind_nginx(tmp_path, registry, authority) as url:
        with client_of(authority, "robot") as robot:
            assert robot.get(f"{url}/v2/").status_code == 200
            assert registry.requests.all()[-1]["user"] == "robot"
            token = robot.get(f"{url}/auth/token", params={"scope": "repository:a/b:pull"}).json()["token"]
            bearer = {"Authorization": f"Bearer {token}"}
            assert robot.get(f"{url}/v2/a/b/tags/list", headers=bearer).status_code == 404
        with client_of(authority) as nobody:
            assert nobody.get(f"{url}/v2/").status_code == 401
            spoofed = {"Client-Cert": header(certificate("robot"))}  # nginx puts its own in its place
            assert nobody.get(f"{url}/v2/", headers=spoofed).status_code == 401
            assert nobody.get(f"{url}/v2/", auth=("alice", USERS["alice"])).status_code == 200


def test_a_header_of_anybody_else_means_nothing(registry: Registry) -> None:
    answer = registry.client.get("/v2/", headers={"Client-Cert": header(certificate("robot"))})
    assert answer.status_code == 401


def certificate(
    common: str = "",
    *,
    units: tuple[str, ...] = (),
    names: tuple[Any, ...] = (),
    extension: x509.ExtensionType | None = None,
) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    parts = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit) for unit in units]
    parts += [x509.NameAttribute(NameOID.COMMON_NAME, common)] if common else []
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(parts))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=1))
    )
    if names:
        extension = x509.SubjectAlternativeName(names)
    if extension is not None:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, hashes.SHA256())


def header(found: x509.Certificate) -> str:
    """RFC 9440, 2.2."""
    return f":{base64.b64encode(found.public_bytes(Encoding.DER)).decode()}:"


_SPIFFE = x509.UniformResourceIdentifier("spiffe://example.org/workload/app")
_OTHER = x509.UniformResourceIdentifier("https://evil/spiffe://example.org/workload/admin")
_PATTERN = r"spiffe://example\.org/workload/(.*)"


@pytest.mark.parametrize(
    ("options", "made", "user"),
    [
        pytest.param({}, {"common": "robot"}, "robot", id="common name"),
        pytest.param(
            {"attributes": ("Subject",)}, {"common": "a", "units": ("b",)}, "CN=a,OU=b", id="subject"
        ),
        pytest.param({"attributes": ("URI",)}, {"names": (_SPIFFE,)}, _SPIFFE.value, id="URI"),
        pytest.param(
            {"attributes": ("URI",), "uri_pattern": _PATTERN}, {"names": (_SPIFFE,)}, "app", id="a part of it"
        ),
        pytest.param(
            {"attributes": ("URI", "CommonName"), "uri_pattern": _PATTERN},
            {"common": "robot", "names": (_OTHER,)},
            "robot",
            id="a URI that only contains it, and the next attribute",
        ),
        pytest.param(
            {"attributes": ("DNSName",), "dns_index": 1},
            {"names": (x509.DNSName("a.example"), x509.DNSName("b.example"))},
            "b.example",
            id="the second DNS name",
        ),
        pytest.param(
            {"attributes": ("Email",)}, {"names": (x509.RFC822Name("a@b.example"),)}, "a@b.example", id="mail"
        ),
    ],
)
def test_attributes_name_the_user_in_their_order(
    options: dict[str, Any], made: dict[str, Any], user: str
) -> None:
    value = header(certificate(**made)).encode()
    person = CertificateReader(CertificateOptions(**options)).person([(b"client-cert", value)])
    assert person is not None
    assert person.user == user


def test_units_may_name_groups() -> None:
    options = CertificateOptions(group_attribute="OrganizationalUnit")
    value = header(certificate("robot", units=("ci", "ops"))).encode()
    person = CertificateReader(options).person([(b"client-cert", value)])
    assert person is not None
    assert person.groups == {"ci", "ops"}


def test_nginx_and_the_rfc_write_one_certificate_in_two_ways() -> None:
    found = certificate("robot")
    reader = CertificateReader(CertificateOptions())
    pem = quote(found.public_bytes(Encoding.PEM)).encode()
    for value in (pem, header(found).encode()):
        person = reader.person([(b"client-cert", value)])
        assert person is not None
        assert person.user == "robot"
    assert [reader.person([(b"client-cert", none)]) for none in (b"", b"::", b" :: ")] == [None] * 3
    assert reader.person([]) is None


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([b"robot"], id="no certificate"),
        pytest.param([b":!!!!:"], id="no base64"),
        pytest.param([b":AAAA:"], id="no DER"),
        pytest.param([b"x" * 40_000], id="too long"),
        pytest.param([header(certificate("a")).encode(), header(certificate("b")).encode()], id="two"),
        pytest.param([header(certificate("")).encode()], id="no name"),
        pytest.param([header(certificate("a\nb")).encode()], id="two lines"),
    ],
)
def test_a_header_that_names_nobody_is_refused(values: list[bytes]) -> None:
    with pytest.raises(CertificateRefused):
        CertificateReader(CertificateOptions()).person([(b"client-cert", value) for value in values])


def test_zots_keys_load_and_need_a_proxy(tmp_path: Path) -> None:
    mtls = "{identityAttributes: [uri, cn], uriSanPattern: 'spiffe://example.org/(.*)', dnsSanIndex: 1}"
    access = options_of(tmp_path, f"trustedProxies: [10.0.0.1]\nauth: {{mtls: {mtls}}}").access
    assert access is not None
    assert access.certificates == CertificateOptions(("URI", "CommonName"), "spiffe://example.org/(.*)", 0, 1)
    assert AccessOptions.from_json(access.to_json()) == access
    [problem] = problems(f"storage: {{rootDirectory: s}}\nhttp:\n  auth: {{mtls: {mtls}}}\n")
    assert "http.auth.mtls: the server's own TLS does not tell whose certificate it was" in problem


def test_names_of_a_kind_that_nobody_reads_are_none() -> None:
    """x400Address (RFC 5280, 4.2.1.6), for which cryptography has no class."""
    names = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, bytes.fromhex("3003a30100"))
    found = certificate("robot", extension=names)
    reader = CertificateReader(CertificateOptions(attributes=("Email", "CommonName")))
    person = reader.person([(b"client-cert", header(found).encode())])
    assert person is not None
    assert person.user == "robot"


def test_a_subject_that_is_no_text_is_refused() -> None:
    der = certificate("robot").public_bytes(Encoding.DER).replace(b"\x0c\x05robot", b"\x0c\x05ro\xff\xfet")
    value = b":" + base64.b64encode(der) + b":"
    with pytest.raises(CertificateRefused, match="a subject that cannot be read"):
        CertificateReader(CertificateOptions()).person([(b"client-cert", value)])
