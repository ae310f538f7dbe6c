"""`mirrorflow client`: what each kind of client is told, as the client itself would parse it."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from flows.client_config.generate import (
    KINDS,
    AddressUnusable,
    AuthorityUnusable,
    NothingMirrored,
    make,
    mirror_of,
)
from flows.client_config.model import FileInTheWay, Mirror, write_files
from flows.client_config.routes import Route, upstream_hosts
from profiles.loader import parse_profile
from tests.support.certificates import Authority

if TYPE_CHECKING:
    from pathlib import Path

    from flows.client_config.model import ClientConfig
    from profiles.model.profile import Profile

HUB = {"urls": ["https://docker.io"], "onDemand": True, "content": [{"prefix": "library/*"}]}
OFFICIAL = {
    "urls": ["https://docker.io/library"],
    "onDemand": True,
    "content": [{"prefix": "**", "destination": "/docker-images"}],
}
STRIPPED = {
    "urls": ["http://registry1:5000"],
    "content": [
        {"prefix": "apps/**", "destination": "/mirror", "stripPrefix": True},
        {"prefix": "**", "destination": "/all"},
    ],
}


def profile(tmp_path: Path, *entries: dict[str, Any], **http: Any) -> Profile:
    document = {"storage": {"rootDirectory": "store"}, "sync": {"registries": list(entries)}, "http": http}
    return parse_profile(json.dumps(document), tmp_path / "profile.json").profile


def files(kind: str, of: Profile, **options: Any) -> dict[str, str]:
    return {file.path: file.content for file in setup(kind, of, **options).files}


def setup(kind: str, of: Profile, **options: Any) -> ClientConfig:
    return make(kind, of, mirror_of(of, **options))


@pytest.mark.parametrize(
    ("entry", "routes"),
    [
        pytest.param(HUB, [Route("library", "library")], id="Docker Hub"),
        pytest.param(OFFICIAL, [Route("library", "docker-images")], id="a path in the url"),
        pytest.param(HUB | {"content": [{"prefix": "*"}]}, [Route("library", "")], id="one part on the Hub"),
        pytest.param(HUB | {"content": [{"prefix": "**"}]}, [Route("", "")], id="all of the Hub"),
        pytest.param(
            HUB | {"content": [{"prefix": "alpine"}]},
            [Route("library/alpine", "alpine")],
            id="an official one",
        ),
        pytest.param(STRIPPED, [Route("apps", "mirror"), Route("", "all")], id="stripPrefix"),
        pytest.param({"urls": ["http://r:5"], "onDemand": True}, [Route("", "")], id="no rule at all"),
        pytest.param(
            {"urls": ["http://r:5"], "content": [{"images": ["a/b:1", "a/b:2", "c:1"]}]},
            [Route("a/b", "a/b"), Route("c", "c")],
            id="images one by one",
        ),
    ],
)
def test_names_there_and_names_here(tmp_path: Path, entry: dict[str, Any], routes: list[Route]) -> None:
    [host] = upstream_hosts(profile(tmp_path, entry).sync)
    assert list(host.routes) == routes


def test_the_table_with_the_longest_prefix_knows_every_place(tmp_path: Path) -> None:
    """containers/image looks at one table only, so a special one repeats what a wider one would say."""
    [host] = upstream_hosts(profile(tmp_path, STRIPPED).sync)
    assert host.places() == {"apps": ("mirror", "all/apps"), "": ("all",)}
    text = files("podman", profile(tmp_path, STRIPPED))[
        "/etc/containers/registries.conf.d/50-mirrorflow.conf"
    ]
    special, wide = tomllib.loads(text)["registry"]
    assert special == {
        "prefix": "registry1:5000/apps",
        "location": "registry1:5000/apps",
        "insecure": True,
        "mirror": [
            {"location": "127.0.0.1:8080/mirror", "insecure": True},
            {"location": "127.0.0.1:8080/all/apps", "insecure": True},
        ],
    }
    assert (wide["prefix"], wide["mirror"][0]["location"]) == ("registry1:5000", "127.0.0.1:8080/all")


def test_containerd_names_the_registry_and_goes_on_upstream(tmp_path: Path) -> None:
    made = files("containerd", profile(tmp_path, OFFICIAL))
    folder = "/etc/containerd/certs.d"
    assert set(made) == {f"{folder}/docker.io/hosts.toml", f"{folder}/_default/hosts.toml"}
    hub = tomllib.loads(made[f"{folder}/docker.io/hosts.toml"])
    assert hub["server"] == "https://registry-1.docker.io"
    [(url, host)] = hub["host"].items()
    assert (url, host["capabilities"]) == ("http://127.0.0.1:8080", ["pull", "resolve"])
    assert "server" not in tomllib.loads(made[f"{folder}/_default/hosts.toml"])


def test_without_a_receiver_containerd_gets_paths_and_is_told_what_they_cannot_say(tmp_path: Path) -> None:
    of = profile(tmp_path, STRIPPED)
    hosts = tomllib.loads(files("containerd", of)["/etc/containerd/certs.d/registry1:5000/hosts.toml"])
    assert hosts["host"] == {
        "http://127.0.0.1:8080/v2/all": {
            "capabilities": ["pull", "resolve"],
            "override_path": True,
            "dial_timeout": "5s",
        }
    }
    assert any("apps of registry1:5000 is mirror here" in step for step in setup("containerd", of).steps)


def test_k3s_rewrites_only_where_the_server_does_not_do_it(tmp_path: Path) -> None:
    path = "/etc/rancher/k3s/registries.yaml"
    by_name = yaml.safe_load(files("k3s", profile(tmp_path, OFFICIAL))[path])
    assert by_name == {"mirrors": {"docker.io": {"endpoint": ["http://127.0.0.1:8080"]}}}
    by_path = yaml.safe_load(files("k3s", profile(tmp_path, OFFICIAL | {"onDemand": False}))[path])
    assert by_path["mirrors"]["docker.io"]["rewrite"] == {"^library(/.*)?$": "docker-images$1"}


def test_buildkit_says_how_to_reach_the_mirror_in_a_table_of_its_own(tmp_path: Path) -> None:
    of = profile(tmp_path, STRIPPED)
    found = tomllib.loads(files("buildkit", of)["/etc/buildkit/buildkitd.toml"])["registry"]
    assert found == {"registry1:5000": {"mirrors": ["127.0.0.1:8080/all"]}, "127.0.0.1:8080": {"http": True}}


@pytest.mark.parametrize(
    ("entry", "works"),
    [
        pytest.param(HUB, True, id="under its own names"),
        pytest.param(OFFICIAL, False, id="under a destination"),
        pytest.param(OFFICIAL | {"content": []}, True, id="library put before it by the url"),
    ],
)
def test_docker_is_told_when_a_registry_mirror_would_find_nothing(
    tmp_path: Path, entry: dict[str, Any], *, works: bool
) -> None:
    of = profile(tmp_path, entry)
    made = setup("docker", of)
    daemon = json.loads(made.files[0].content)
    assert daemon == {
        "registry-mirrors": ["http://127.0.0.1:8080"],
        "insecure-registries": ["127.0.0.1:8080"],
    }
    assert any("it will find none of them" in step for step in made.steps) is not works


def test_docker_goes_to_the_host_that_stands_for_docker_hub(tmp_path: Path) -> None:
    vhosts = {"quay.mirror.example": "quay", "hub.mirror.example": "hub"}
    quay = {"name": "quay", "urls": ["https://quay.io"], "onDemand": True}
    made = setup("docker", profile(tmp_path, quay, OFFICIAL | {"name": "hub"}, vhosts=vhosts))
    daemon = json.loads(made.files[0].content)
    assert daemon == {
        "registry-mirrors": ["http://hub.mirror.example:8080"],
        "insecure-registries": ["127.0.0.1:8080", "hub.mirror.example:8080"],
    }
    assert not any("it will find none of them" in step for step in made.steps)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "docker"])
def test_without_fallback_nothing_leads_upstream(tmp_path: Path, kind: str) -> None:
    """What the mirror refuses, by a policy perhaps, is not to be had past it."""
    of = profile(tmp_path, OFFICIAL)
    made = setup(kind, of, fallback=False)
    text = "".join(file.content for file in made.files)
    assert "registry-1.docker.io" not in text
    assert 'location = "docker.io' not in text
    if kind in ("k3s", "buildkit"):  # the file cannot say it
        assert any("goes on" in step for step in made.steps)


@pytest.fixture
def secured(tmp_path: Path) -> tuple[Profile, Path]:
    """TLS by a CA of one's own, certificates of clients, and a login."""
    authority = Authority(tmp_path)
    pair = authority.server()
    (tmp_path / "htpasswd").write_text("")
    tls = {"cert": str(pair.cert), "key": str(pair.key), "cacert": str(authority.cert)}
    auth = {"htpasswd": {"path": "htpasswd"}}
    of = profile(tmp_path, HUB, tls=tls, auth=auth, externalUrl="https://mirror.example")
    return of, authority.cert


@pytest.mark.parametrize("kind", KINDS)
def test_tls_and_login_are_where_the_client_looks_for_them(secured: tuple[Profile, Path], kind: str) -> None:
    of, authority = secured
    mirror = mirror_of(of, authority=authority)
    assert mirror == Mirror("https", "mirror.example", authority.read_text(), True, True)
    made = make(kind, of, mirror)
    [trust] = [file for file in made.files if file.path.endswith("/mirror.example/ca.crt")]
    assert trust.content == authority.read_text()
    text = "".join(file.content for file in made.files if file is not trust)
    if kind in ("containerd", "buildkit", "k3s"):  # the others look into the folder by themselves
        assert trust.path in text
        assert trust.path.replace("ca.crt", "client.key") in text
    assert "insecure" not in text
    assert any("login" in step for step in made.steps)
    assert any("client.cert" in step for step in made.steps)
    assert "PRIVATE KEY" not in text


@pytest.mark.parametrize(
    ("http", "address", "url"),
    [
        pytest.param({}, "", "http://127.0.0.1:8080", id="the default"),
        pytest.param({"port": 80}, "", "http://127.0.0.1", id="the usual port"),
        pytest.param({"address": "::1"}, "", "http://[::1]:8080", id="IPv6"),
        pytest.param({"externalUrl": "https://a.example"}, "", "https://a.example", id="externalUrl"),
        pytest.param({"port": 0}, "mirror:5000", "http://mirror:5000", id="asked for"),
        pytest.param({}, "https://mirror:443/", "https://mirror", id="a URL"),
    ],
)
def test_where_clients_see_the_server(tmp_path: Path, http: dict[str, Any], address: str, url: str) -> None:
    assert mirror_of(profile(tmp_path, HUB, **http), address=address).url == url


@pytest.mark.parametrize(
    ("http", "address", "words"),
    [
        pytest.param({"port": 0}, "", "say --address", id="any port"),
        pytest.param({}, "mirror/v2", "is not an address", id="a path"),
        pytest.param({}, "http://user:pass@mirror", "is not an address", id="a password"),
        pytest.param({}, 'a"\nb', "is not an address", id="quotes"),
    ],
)
def test_an_address_that_is_none(tmp_path: Path, http: dict[str, Any], address: str, words: str) -> None:
    with pytest.raises(AddressUnusable, match=words):
        mirror_of(profile(tmp_path, HUB, **http), address=address)


def test_a_profile_without_a_mirror(tmp_path: Path) -> None:
    of = profile(tmp_path)
    with pytest.raises(NothingMirrored):
        make("podman", of, mirror_of(of))


def test_a_ca_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "server.key").write_text("-----BEGIN PRIVATE KEY-----\n")
    for name in ("server.key", "none.crt"):
        with pytest.raises(AuthorityUnusable, match=name):
            mirror_of(profile(tmp_path, HUB), authority=tmp_path / name)


def test_files_in_the_way_are_not_written_over(tmp_path: Path) -> None:
    made = setup("docker", profile(tmp_path, HUB))
    written = write_files(made.files, tmp_path / "root")
    assert tmp_path / "root/etc/docker/daemon.json" in written
    assert write_files(made.files, tmp_path / "root") == []
    (tmp_path / "root/etc/docker/daemon.json").write_text('{"debug": true}')
    (tmp_path / "root/etc/docker/certs.d/docker.io/hosts.toml").unlink()
    with pytest.raises(FileInTheWay, match=r"daemon\.json is there already"):
        write_files(made.files, tmp_path / "root")
    assert not (tmp_path / "root/etc/docker/certs.d/docker.io/hosts.toml").exists()
