"""https, and clients that must show a certificate."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from typing import TYPE_CHECKING

import httpx
import pytest

from flows.demo.sample_images import ImageMaker, layer
from registry_server.http.server_options import Tls
from registry_server.http.server_process import ServerFailed, running_server
from registry_server.oci.reference import RepositoryName
from registry_server.store.store import Store
from tests.support.certificates import Authority
from tests.support.registries import put_blob
from tests.support.stored_files import file_of
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path


def _context(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.cert))


def test_blobs_come_over_https(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.server()
    content = bytes(range(256)) * 10_000
    store = Store.open(tmp_path / "store", durability="none")
    blob = put_blob(store, "library/tls", content)
    assert store.repository(RepositoryName("library/tls")).has_blob(blob.digest)
    with running_server(store.root, tls=Tls(pair.cert, pair.key)) as url:
        assert url.startswith("https://127.0.0.1:")
        with httpx.Client(base_url=url, verify=_context(authority)) as client:
            assert client.get(f"/v2/library/tls/blobs/{blob.digest}").content == content
        with pytest.raises(httpx.ConnectError):  # one that does not know the CA
            httpx.get(f"{url}/v2/")


def test_over_http_2_an_answer_that_breaks_off_does_not_end_well(tmp_path: Path) -> None:
    """Go clients speak it over TLS; without a connection to close, the stream has to be reset."""
    curl = _curl_with_http_2()
    authority = Authority(tmp_path)
    pair = authority.server()
    store = Store.open(tmp_path / "store", durability="none")
    blob = put_blob(store, "library/tls", bytes(64 * 1024 * 1024))
    path = file_of(store.repository(RepositoryName("library/tls")), blob.digest)
    got = tmp_path / "got"
    with running_server(store.root, tls=Tls(pair.cert, pair.key)) as url:
        command = [curl, "--silent", "--http2", "--cacert", str(authority.cert), "--limit-rate", "30M"]
        command += ["--write-out", "%{http_version} %{http_code}", "--output", str(got)]
        with subprocess.Popen(
            [*command, f"{url}/v2/library/tls/blobs/{blob.digest}"], stdout=subprocess.PIPE, text=True
        ) as asking:
            wait_for(lambda: got.exists() and got.stat().st_size > 0)
            path.chmod(0o644)
            os.truncate(path, 16 * 1024 * 1024)
            assert asking.communicate(timeout=60)[0] == "2 200"
    assert asking.returncode == 92  # CURLE_HTTP2_STREAM
    assert got.stat().st_size <= 16 * 1024 * 1024


def _curl_with_http_2() -> str:
    curl = shutil.which("curl")
    if curl is None or b"HTTP2" not in subprocess.check_output([curl, "--version"]):
        pytest.skip("there is no curl that knows HTTP/2")
    return curl


def test_with_a_client_ca_only_its_clients_come_in(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    authority, stranger = Authority(tmp_path), Authority(tmp_path / "other", "another CA")
    pair = authority.server()
    tls = Tls(pair.cert, pair.key, authority.cert)
    with running_server(tmp_path / "store", tls=tls) as url:
        known, unknown = _context(authority), _context(authority)
        mine, theirs = authority.client(), stranger.client()
        known.load_cert_chain(mine.cert, mine.key)
        unknown.load_cert_chain(theirs.cert, theirs.key)
        with httpx.Client(verify=known) as client:
            assert client.get(f"{url}/v2/").status_code == 200
        for context in (_context(authority), unknown):
            with httpx.Client(verify=context) as client, pytest.raises(httpx.TransportError):
                client.get(f"{url}/v2/")


def test_skopeo_comes_in_with_a_client_certificate(tmp_path: Path, skopeo: str) -> None:
    authority = Authority(tmp_path)  # its ca.crt, and *.cert with *.key: the layout of /etc/docker/certs.d
    pair = authority.server()
    authority.client()
    store = Store.open(tmp_path / "store", durability="none")
    maker = ImageMaker(store.repository(RepositoryName("library/tls")))
    maker.tag(maker.image([layer("tls", 2_000_000)]), "latest")
    (certs := tmp_path / "certs").mkdir()
    for name in ("ca.crt", "client.cert", "client.key"):
        shutil.copy(tmp_path / name, certs)
    with running_server(store.root, tls=Tls(pair.cert, pair.key, authority.cert)) as url:
        source = f"docker://{url.removeprefix('https://')}/library/tls:latest"
        command = [skopeo, "copy", "-q", "--src-cert-dir", str(certs), source, f"dir:{tmp_path / 'copy'}"]
        subprocess.run(command, check=True, timeout=60)


@pytest.mark.parametrize("broken", ["cert", "key", "client_ca"])
@pytest.mark.parametrize("content", [None, "not PEM"], ids=["missing", "nonsense"])
def test_files_that_cannot_be_used_are_named_before_it_listens(
    tmp_path: Path, broken: str, content: str | None
) -> None:
    pair = Authority(tmp_path).server()
    files = {
        "cert": pair.cert,
        "key": pair.key,
        "client_ca": tmp_path / "ca.crt",
        broken: tmp_path / "broken.pem",
    }
    if content is not None:
        (tmp_path / "broken.pem").write_text(content)
    with (
        pytest.raises(ServerFailed, match=r"cannot use .*broken\.pem"),
        running_server(tmp_path / "store", tls=Tls(**files)),
    ):
        pass


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with (
        pytest.raises(ServerFailed, match="cannot use the certificate"),
        running_server(tmp_path / "store", tls=Tls(authority.server().cert, authority.client().key)),
    ):
        pass
