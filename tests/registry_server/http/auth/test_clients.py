"""Real clients sign in: skopeo with a password, over https, anonymous beside users."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from flows.demo.sample_images import layer
from tests.registry_server.http.auth.support import AUTH, USERS, guarded
from tests.support.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.registries import Registry

CONTROL = """
accessControl:
  repositories:
    "open/**": {anonymousPolicy: [read]}
    "team/**": {policies: [{users: [alice], actions: [read]}]}
"""


def _fill(registry: Registry) -> None:
    for name in ("open/app", "team/app"):
        maker = registry.maker(name)
        maker.tag(maker.image([layer("base", 3000)]), "1")


@pytest.fixture(scope="module", params=["tokens", "passwords-only"])
def registry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Over https, as it should be."""
    folder = tmp_path_factory.mktemp("guarded")
    authority = Authority(folder)
    authority.server()
    auth = AUTH if request.param == "tokens" else AUTH.replace("1ms", "1ms, bearer: {enable: false}")
    tls = "tls: {cert: server.cert, key: server.key}"
    with guarded(folder, f"{tls}\n{auth}{CONTROL}", workers=2) as found:
        _fill(found)
        yield found


def _skopeo(skopeo: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([skopeo, *arguments], capture_output=True, text=True, timeout=60, check=False)


def _copy(skopeo: str, registry: Registry, name: str, folder: Path, *more: str) -> int:
    source = f"docker://{registry.url.removeprefix('https://')}/{name}:1"
    certs = ["--src-cert-dir", str(registry.store.root.parent)]
    return _skopeo(skopeo, "copy", "-q", *certs, *more, source, f"dir:{folder}").returncode


@pytest.mark.parametrize(
    ("name", "user", "works"),
    [
        ("open/app", "", True),
        ("team/app", "", False),
        ("team/app", "alice", True),
        ("team/app", "bob", False),
        ("open/app", "bob", True),
        ("open/none", "bob", False),
    ],
)
def test_skopeo_copies_what_its_user_may_read(
    skopeo: str, registry: Registry, tmp_path: Path, name: str, user: str, *, works: bool
) -> None:
    who = ["--src-creds", f"{user}:{USERS[user]}"] if user else ["--src-no-creds"]
    assert (_copy(skopeo, registry, name, tmp_path / "copy", *who) == 0) is works


def test_skopeo_logs_in_and_out(skopeo: str, registry: Registry, tmp_path: Path) -> None:
    host = registry.url.removeprefix("https://")
    file, certs = tmp_path / "auth.json", str(registry.store.root.parent)
    login = ["login", "--authfile", str(file), "--cert-dir", certs, "-u"]
    assert _skopeo(skopeo, *login, "alice", "-p", "wrong", host).returncode != 0
    assert not file.exists() or host not in file.read_text()
    assert _skopeo(skopeo, *login, "alice", "-p", USERS["alice"], host).returncode == 0
    assert _copy(skopeo, registry, "team/app", tmp_path / "copy", "--src-authfile", str(file)) == 0
