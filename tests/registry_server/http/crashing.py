"""Clients that push until the server is killed, and one that pulls everything afterwards."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx

from registry_server.oci.digest import Digest
from tests.registry_server.http.pushing import image, index, push_blob, put_manifest
from tests.registry_server.http.upload_ways import WAYS
from tests.registry_server.store.images import layer

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from registry_server.oci.descriptor import Descriptor

Name = tuple[str, str]  # repository, tag
_TAGS = 4  # of each writer in each repository: they move
GONE = ""


@dataclass(slots=True)
class Promises:
    """What clients were told of their tags: the digest, or `GONE`; and what they asked for last."""

    told: dict[Name, str] = field(default_factory=dict)
    asked: dict[Name, str] = field(default_factory=dict)
    kept: int = 0

    def ask(self, name: Name, digest: str, act: Callable[[], httpx.Response]) -> None:
        """Each tag has one writer, so what it names is what he was told, or what he asked for since."""
        self.asked[name] = digest
        answer = act()
        assert answer.status_code in (201, 202, 404), answer.text  # 404: what is to be deleted is not there
        self.told[name] = digest
        del self.asked[name]
        self.kept += 1

    def settle(self, visible: dict[Name, str]) -> None:
        """Compare with what is there after a crash, and go on from that."""
        for name in self.told.keys() | self.asked.keys() | visible.keys():
            allowed = {self.told.get(name, GONE), self.asked.get(name, self.told.get(name, GONE))}
            assert visible.get(name, GONE) in allowed, name
        self.told, self.asked = dict(visible), {}


class Writer:
    """One client with a connection and tags of its own; `work` ends when the server does."""

    def __init__(self, who: int, url: str, promises: Promises, seed: int) -> None:
        self._who, self._promises = who, promises
        self._chance = random.Random(f"{who} {seed}")  # noqa: S311 - a schedule, no secret
        self._client = httpx.Client(base_url=url, timeout=60)

    def work(self, stopped: threading.Event) -> None:
        with self._client:
            while not stopped.is_set():
                try:
                    self._one_image()
                except (httpx.TransportError, httpx.InvalidURL):
                    return

    def _one_image(self) -> None:
        repository = self._chance.choice("ab")
        name = (repository, f"w{self._who}-{self._chance.randrange(_TAGS)}")
        path = f"/v2/{repository}/manifests/{name[1]}"
        if self._chance.random() < 0.15:
            self._promises.ask(name, GONE, lambda: self._client.delete(path))
            return
        layers = [self._layer(repository), push_blob(self._client, b"shared by all", repository)]
        body = image(push_blob(self._client, b"{}", repository), *layers)
        if self._chance.random() < 0.3:
            assert put_manifest(self._client, body, Digest.of(body), repository).status_code == 201
            body = index(body)
        self._promises.ask(
            name, Digest.of(body), lambda: put_manifest(self._client, body, name[1], repository)
        )

    def _layer(self, repository: str) -> Descriptor:
        """By any of the ways into `a`, and from there by mounting."""
        content = self._chance.randbytes(self._chance.randrange(60_000))
        digest = Digest.of(content)
        answer = self._chance.choice(WAYS)(self._client, digest, content)
        assert answer.status_code == 201, answer.text
        if repository != "a":
            answer = self._client.post(f"/v2/{repository}/blobs/uploads/?mount={digest}&from=a")
            assert answer.status_code == 201, answer.text
        return layer(content)


def pull_everything(url: str) -> dict[Name, str]:
    """Every visible tag and its digest; every byte that it leads to was fetched and hashed."""
    visible: dict[Name, str] = {}
    with httpx.Client(base_url=url, timeout=60) as client:
        for repository in client.get("/v2/_catalog").json()["repositories"]:
            for tag in client.get(f"/v2/{repository}/tags/list").json()["tags"]:
                visible[repository, tag] = _pull(client, repository, tag)
    return visible


def _pull(client: httpx.Client, repository: str, reference: str) -> str:
    found = client.get(f"/v2/{repository}/manifests/{reference}")
    assert found.status_code == 200, found.text
    digest = Digest.of(found.content)
    assert digest == found.headers["Docker-Content-Digest"]
    document = found.json()
    for child in document.get("manifests", ()):
        assert _pull(client, repository, child["digest"]) == child["digest"]
    for each in _blobs(document):
        blob = client.get(f"/v2/{repository}/blobs/{each}")
        assert blob.status_code == 200, blob.text
        assert Digest.of(blob.content) == each
    return digest


def _blobs(document: dict[str, list[dict[str, str]] | dict[str, str]]) -> Iterator[str]:
    config, layers = document.get("config"), document.get("layers")
    if isinstance(config, dict):
        yield config["digest"]
    if isinstance(layers, list):
        yield from (each["digest"] for each in layers)
