"""`lock`, `sync --locked` and `plan` with a lock, by the commands, against a registry that moves on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from flows.demo.sample_images import layer
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.store import Store
from tests.support.registries import running_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from tests.support.registries import Registry

WEB = RepositoryName("apps/web")


@dataclass
class Mirror:
    """A profile, its lock and its store, and the registry that it mirrors."""

    folder: Path
    upstream: Registry
    content: tuple[dict[str, Any], ...] = ({"prefix": "apps/**"},)

    @property
    def lock(self) -> Path:
        return self.folder / "mirrorflow.lock"

    @property
    def locked(self) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = json.loads(self.lock.read_text())["images"]
        return found

    def run(self, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        entry = {
            "name": "hub",
            "urls": [self.upstream.url],
            "maxRetries": 0,
            "content": list(self.content),
        }
        profile = self.folder / "profile.json"
        document = {"storage": {"rootDirectory": "store"}, "sync": {"registries": [entry]}}
        profile.write_text(json.dumps(document))
        command, *rest = map(str, arguments)
        kept = {name: each for name, each in os.environ.items() if not name.startswith("PREFECT_")}
        done = subprocess.run(
            [sys.executable, "-c", "from flows.cli import main; main()", command, profile, *rest],
            env={**kept, "COLUMNS": "250"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    def push(self, *tags: str, content: str, repository: RepositoryName = WEB) -> Descriptor:
        maker = self.upstream.maker(repository)
        made = maker.image([layer(content, 2000)])
        maker.tag(made, *tags)
        return made

    def stored(self, tag: str, repository: RepositoryName = WEB) -> Digest | None:
        record = Store.open(self.folder / "store").repository(repository).tag(Tag(tag))
        return record.digest if record else None


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    with running_registry(tmp_path / "upstream") as upstream:
        yield Mirror(tmp_path, upstream)


def test_a_lock_has_what_a_sync_would_take(mirror: Mirror) -> None:
    first = mirror.push("v1", content="one")
    second = mirror.push("v2", "latest", content="two")
    done = mirror.run("lock")
    assert {name: each["digest"] for name, each in mirror.locked.items()} == {
        "apps/web:v1": first.digest,
        "apps/web:v2": second.digest,
        "apps/web:latest": second.digest,
    }
    assert "3 images; 3 added, 0 moved, 0 removed" in done.stderr
    assert not (mirror.folder / "store").exists()
    before = mirror.lock.read_bytes()
    mirror.run("sync")
    mirror.run("lock")
    assert mirror.lock.read_bytes() == before, "what is here already is in it as well"


def test_a_locked_sync_takes_the_locked_digests_whatever_has_moved_since(mirror: Mirror) -> None:
    old = mirror.push("latest", content="one")
    mirror.run("lock")
    new = mirror.push("latest", content="two")
    mirror.push("v2", content="three")
    mirror.run("sync", "--locked")
    assert (mirror.stored("latest"), mirror.stored("v2")) == (old.digest, None)
    mirror.run("sync")
    assert mirror.stored("latest") == new.digest
    mirror.run("sync", "--locked")
    assert mirror.stored("latest") == old.digest, "a tag goes back to the lock"
    (report,) = json.loads(mirror.run("sync", "--locked", "--json").stdout)
    assert (report["state"], report["only"]) == ("complete", ["apps/web:latest"])


def test_newest_does_not_take_a_locked_tag_away(mirror: Mirror) -> None:
    mirror.content = ({"prefix": "apps/**", "tags": {"semver": True, "newest": 1}},)
    old = mirror.push("1.0.0", content="one")
    mirror.run("lock")
    mirror.push("2.0.0", content="two")
    mirror.run("sync", "--locked")
    assert (mirror.stored("1.0.0"), mirror.stored("2.0.0")) == (old.digest, None)


def test_a_tag_that_the_upstream_deleted_is_taken_while_its_digest_is_there(mirror: Mirror) -> None:
    """That is what a digest is for."""
    old = mirror.push("v1", content="one")
    mirror.push("v2", content="two")
    mirror.run("lock")
    mirror.upstream.store.repository(WEB).delete_tag(Tag("v1"))
    mirror.run("sync", "--locked")
    assert mirror.stored("v1") == old.digest


def test_what_the_upstream_no_longer_has_fails_and_its_neighbours_come(mirror: Mirror) -> None:
    gone = mirror.push("v1", content="one")
    kept = mirror.push("v2", content="two")
    mirror.run("lock")
    mirror.upstream.store.repository(WEB).delete_manifest(gone.digest)
    done = mirror.run("sync", "--locked", code=1)
    assert f"the upstream does not have {gone.digest} any more, which the lock names" in done.stdout
    assert f"apps/web:v1 is not here, and the lock says {gone.digest}" in done.stderr
    assert mirror.stored("v2") == kept.digest


def test_images_with_other_names_here_and_listed_digests_are_locked(mirror: Mirror) -> None:
    made = mirror.push("v1", content="one")
    listed = mirror.push("v2", content="two")
    mirror.content = (
        {"prefix": "apps/*", "destination": "mirror", "stripPrefix": True, "tags": {"regex": "v1"}},
        {"images": [f"apps/web@{listed.digest}"]},
    )
    mirror.run("lock")
    assert {name: each["source"] for name, each in mirror.locked.items()} == {
        "mirror/web:v1": "apps/web:v1",
        f"apps/web@{listed.digest}": f"apps/web@{listed.digest}",
    }
    mirror.run("sync", "--locked")
    assert mirror.stored("v1", RepositoryName("mirror/web")) == made.digest
    assert Store.open(mirror.folder / "store").repository(WEB).has_blob(listed.digest)


def test_a_lock_that_the_rules_have_left_behind_is_refused(mirror: Mirror) -> None:
    mirror.push("v1", content="one")
    mirror.run("lock")
    mirror.content = ({"prefix": "other/**"},)
    done = mirror.run("sync", "--locked", code=1)
    assert "no content rule puts that there any more; 'mirrorflow lock' writes it anew" in done.stderr
    assert mirror.stored("v1") is None


def test_a_locked_sync_without_a_lock_says_what_makes_one(mirror: Mirror) -> None:
    mirror.push("v1", content="one")
    assert "'mirrorflow lock' writes it" in mirror.run("sync", "--locked", code=1).stderr


def test_locked_and_image_do_not_go_together(mirror: Mirror) -> None:
    mirror.push("v1", content="one")
    mirror.run("lock")
    done = mirror.run("sync", "--locked", "--image", "apps/web:v1", code=2)
    assert "drop --image" in done.stderr


def test_what_cannot_be_checked_is_not_locked(mirror: Mirror) -> None:
    mirror.push("v1", content="one")
    mirror.run("lock")
    before = mirror.lock.read_bytes()
    mirror.content = ({"prefix": "apps/**"}, {"images": ["missing/image:v1"]})
    done = mirror.run("lock", code=1)
    assert "what cannot be checked cannot be locked" in done.stderr
    assert mirror.lock.read_bytes() == before


def test_plan_shows_what_has_changed_since_the_lock(mirror: Mirror) -> None:
    mirror.push("v1", content="one")
    old = mirror.push("latest", content="two")
    mirror.run("lock")
    mirror.run("sync")
    assert "0 added, 0 moved, 0 removed since mirrorflow.lock was written" in mirror.run("plan").stdout
    new = mirror.push("latest", content="three")
    mirror.upstream.store.repository(WEB).delete_tag(Tag("v1"))
    shown = mirror.run("plan", code=2).stdout
    assert "hub: 0 added, 1 moved, 1 removed since mirrorflow.lock was written" in shown
    (plan,) = json.loads(mirror.run("plan", "--json", code=2).stdout)
    assert plan["lock"]["moved"] == {"apps/web:latest": {"from": old.digest, "to": new.digest}}
    assert list(plan["lock"]["removed"]) == ["apps/web:v1"]


def test_plan_as_markdown_is_a_table_for_a_pull_request(mirror: Mirror) -> None:
    old = mirror.push("latest", content="one")
    mirror.run("lock")
    new = mirror.push("latest", content="two")
    lines = mirror.run("plan", "--format", "markdown", code=2).stdout.splitlines()
    assert lines[0] == "### hub: 0 added, 1 moved, 0 removed"
    assert f"| `apps/web:latest` | moved | `{old.digest}` | `{new.digest}` |" in lines
    mirror.lock.unlink()
    lines = mirror.run("plan", "--format", "markdown", code=2).stdout.splitlines()
    assert lines[0] == "### hub: 1 changed, 0 unchanged"
