"""`accelRedirect`: nginx sends the blobs from the disk, as docs/scaling.md configures it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from registry_server.oci.reference import RepositoryName
from tests.registry_server.store.images import layer, tag_image
from tests.support.nginx import documented, free_ports, replaced, running_nginx
from tests.support.registries import running_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.registries import Registry

NAME = RepositoryName("library/app")
LAYER = bytes(range(256)) * 20_000
BLOB = f"/v2/{NAME}/blobs/{layer(LAYER).digest}"
NGINX, ANOTHER = "127.0.0.1", "127.0.0.2"
_SERVER = """server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass {url}; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }}
    {files}
}}"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("a%41folder")  # its path is one that has to be quoted
    with running_registry(folder, trusted_proxies=(NGINX,), accel_redirect="/mirror-files") as found:
        tag_image(found.store.repository(NAME), "1", LAYER, b"")
        yield found


@pytest.fixture(scope="module")
def client(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Of nginx."""
    [port] = free_ports(1)
    location = documented("docs/scaling.md", "mirror-files.conf")
    files = replaced(location, ("/srv/mirror", str(registry.store.root)))
    configuration = _SERVER.format(port=port, url=registry.url, files=files)
    with (
        running_nginx(tmp_path_factory.mktemp("nginx"), port, configuration),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Accept-Encoding": "identity"}) as found,
    ):
        yield found


def sent(registry: Registry) -> int:
    """Bytes that the registry server itself has sent for the last request."""
    return int(registry.requests.all()[-1]["bytes"])


def test_nginx_sends_what_the_registry_server_would_send(registry: Registry, client: httpx.Client) -> None:
    with httpx.Client(transport=httpx.HTTPTransport(local_address=ANOTHER)) as other:
        direct = other.get(registry.url + BLOB)
    assert (direct.status_code, direct.content) == (200, LAYER)
    assert "X-Accel-Redirect" not in direct.headers
    found = client.get(BLOB)
    assert (found.status_code, found.content) == (200, LAYER)
    for name in ("Content-Type", "Content-Length", "Docker-Content-Digest", "ETag", "Cache-Control"):
        assert found.headers[name] == direct.headers[name], name
    for name in ("X-Content-Type-Options", "Content-Security-Policy"):
        assert found.headers.get_list(name) == [direct.headers[name]], name
    assert sent(registry) == 0


@pytest.mark.parametrize(
    ("headers", "status", "content"),
    [
        pytest.param({"Range": "bytes=1000-1999"}, 206, LAYER[1000:2000], id="a range"),
        pytest.param({"Range": "bytes=-5"}, 206, LAYER[-5:], id="the end"),
        pytest.param({"Range": f"bytes={len(LAYER)}-"}, 416, None, id="what no blob has"),
        pytest.param({"Range": "bytes=0-1,5-6"}, 200, LAYER, id="several ranges are not served"),
        pytest.param({"Range": "bytes=5-6", "If-Range": '"another"'}, 200, LAYER, id="of something else"),
        pytest.param(
            {"Range": "bytes=5-6", "If-Range": f'"{layer(LAYER).digest}"'}, 206, LAYER[5:7], id="of this"
        ),
        pytest.param({"If-None-Match": f'"{layer(LAYER).digest}"'}, 304, b"", id="it is known"),
    ],
)
def test_ranges_and_conditions_hold(
    client: httpx.Client, headers: dict[str, str], status: int, content: bytes | None
) -> None:
    found = client.get(BLOB, headers=headers)
    assert found.status_code == status
    assert content is None or found.content == content


def test_a_head_tells_the_size(client: httpx.Client) -> None:
    assert client.head(BLOB).headers["Content-Length"] == str(len(LAYER))


def test_a_manifest_comes_from_the_registry_server(registry: Registry, client: httpx.Client) -> None:
    found = client.get(f"/v2/{NAME}/manifests/1")
    assert found.status_code == 200
    assert sent(registry) == len(found.content)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(f"/mirror-files{{root}}/blobs/sha256/{layer(LAYER).digest.hex[:2]}/", id="a folder"),
        pytest.param("/mirror-files/etc/passwd", id="another file"),
        pytest.param(f"/v2/{NAME}/blobs/sha256:{'0' * 64}", id="a blob that is not there"),
        pytest.param(f"/v2/library/other/blobs/{layer(LAYER).digest}", id="of another repository"),
    ],
)
def test_nobody_gets_what_the_registry_server_does_not_give(
    registry: Registry, client: httpx.Client, path: str
) -> None:
    assert client.get(path.format(root=registry.store.root)).status_code == 404


def test_a_link_in_the_place_of_a_blob_is_not_followed(registry: Registry, client: httpx.Client) -> None:
    content = b"a blob that somebody replaces by a link"
    tag_image(registry.store.repository(NAME), "2", content, b"")
    digest = layer(content).digest
    file = registry.store.root / f"blobs/sha256/{digest.hex[:2]}/{digest.hex}"
    file.unlink()
    file.symlink_to("/etc/passwd")
    assert client.get(f"/v2/{NAME}/blobs/{digest}").status_code in (403, 404)
