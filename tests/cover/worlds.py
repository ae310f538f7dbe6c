"""An upstream, and a profile with a store that mirrors it: what `cover` is asked about."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.client_config.generate import mirror_of
from flows.cover.places import ClientView
from flows.cover.report import cover
from flows.cover.used_images import Use
from profiles.loader import load_profile
from registry_server.oci.descriptor import Platform
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.store import Store
from tests.support.command_line import mirrorflow

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from flows.cover.report import CoverReport
    from registry_server.oci.digest import Digest
    from tests.support.registries import Registry

BOTH = ("linux/amd64", "linux/arm64")
ENTRY = "name: up, urls: ['{url}'], pollInterval: 6h"
RULES = """\
        - {prefix: shop/web, tags: {semverRange: '>=1 <2'}, platforms: [linux/amd64]}
        - {prefix: shop/db, destination: /kept}
        - {prefix: shop/tool, destination: /moved/tool, stripPrefix: true}
        - {prefix: shop/new, tags: {semver: true, newest: 1}}
        - {prefix: shop/named, tags: {rename: {regex: 'v(.*)', to: '$1'}}}
"""


@dataclass(frozen=True)
class World:
    """An upstream, and a profile with a store that mirrors it."""

    upstream: Registry
    folder: Path

    @property
    def profile(self) -> Path:
        return self.folder / "profile.yaml"

    def write(self, rules: str = RULES, entry: str = "", more: str = "") -> None:
        keys = (entry or ENTRY).replace("{url}", self.upstream.url).split(", ")
        lines = "\n      ".join(keys)
        self.profile.write_text(
            "# a profile\nstorage: {rootDirectory: store}\nhttp: {port: 5555}\n"
            f"{more}sync:\n  registries:\n    - {lines}\n" + (f"      content:\n{rules}" if rules else "")
        )

    def image(self, name: str) -> str:
        return f"{self.upstream.host}/{name}"

    def cover(
        self, *images: str, platforms: Iterable[str] = (), client: str = "containerd", address: str = ""
    ) -> CoverReport:
        profile = load_profile(self.profile).profile
        view = ClientView(profile, mirror_of(profile, address=address), client)
        uses = [Use(image, "a list") for image in images]
        return cover(uses, view, [Platform.parse(each) for each in platforms], time.time())

    def state(self, image: str, platforms: Iterable[str] = (), client: str = "containerd") -> tuple[str, str]:
        """State and reason of one image of the upstream."""
        (found,) = self.cover(self.image(image), platforms=platforms, client=client).coverages
        return str(found.state), found.reason

    def command(self, *arguments: object) -> dict[str, Any]:
        """What the command prints as JSON, with its exit code as `exit`."""
        done = mirrorflow("cover", self.profile, "--json", *arguments)
        assert done.stdout, done.stderr
        return {**json.loads(done.stdout), "exit": done.returncode}

    @property
    def store(self) -> Store:
        return Store.open(self.folder / "store", create=False)

    def digest(self, repository: str, tag: str) -> Digest:
        return (
            self.upstream.store.repository(RepositoryName(repository))
            .find_manifest(Tag(tag))
            .descriptor.digest
        )
