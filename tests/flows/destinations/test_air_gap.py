"""A store carried over an air gap, by the commands: two folders that share nothing, and no network."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flows.cli.releasing.bundles import together
from registry_server.oci.reference import RepositoryName, Tag
from tasks.stored.bundles.statements import BUNDLE, INVENTORY
from tests.registry_server.store.images import check
from tests.tasks.stored.bundles.sides import ENFORCED, Gap, Side, gap, noise

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry_server.oci.descriptor import Descriptor

SHARED = noise("base", 3_000_000)


def _programs() -> str:
    """Where Go programs may be, beside what PATH names."""
    return f"{os.environ['PATH']}:{Path.home() / 'go/bin'}"


def program(name: str) -> str:
    found = shutil.which(name, path=_programs())
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def release(side: Side, tag: str, size: int = 40_000) -> Descriptor:
    """A signed image of one large shared layer and a small one of its own."""
    made = side.put(f"team/app:{tag}", SHARED, noise(tag, size))
    side.sign("team/app", made)
    return made


def size_of(bundle: Path) -> int:
    return sum(each.stat().st_size for each in bundle.iterdir())


def test_three_rounds_bring_what_changed_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sides = gap(tmp_path, policy=ENFORCED)
    near, far, carried = sides.near, sides.far, sides.carried
    sizes = []
    far.signed("inventory", "--out", carried / "receipt-0.json")
    for number in (1, 2, 3):
        release(near, f"v{number}")
        release(near, "latest", size=number)
        bundle = sides.carry(f"bundle-{number}", "--split", "1MiB", receipt=f"receipt-{number - 1}.json")
        sizes.append(size_of(bundle))
        far.run("verify", bundle)
        far.run("apply", bundle)
        far.signed("receipt", "--out", carried / f"receipt-{number}.json")
        assert far.digests() == near.digests()
        assert check(far.store) == len(near.digests())
    assert sizes[0] > len(SHARED)
    assert max(sizes[1:]) < 40_000 + 60_000  # the new layer, and manifests, signatures and tar around it
    done = near.signed("create", "--out", carried / "none", "--for", carried / "receipt-3.json")
    assert "nothing to carry" in done.stderr
    assert not (carried / "none").exists()
    with capsys.disabled():
        print(f"\nbundles of three rounds: {', '.join(f'{size:,} bytes' for size in sizes)}")


def test_a_pattern_that_no_repository_has_is_an_error_and_no_empty_success(tmp_path: Path) -> None:
    """`team/*` for `team/a/b`: nobody would notice before the other side misses the images."""
    near = gap(tmp_path).near
    near.put("team/a/app:v1", noise("app", 100))
    done = near.signed("create", "team/*", "--out", tmp_path / "none", code=1)
    assert "the store has no repository 'team/*'" in done.stderr
    near.signed("create", "team/**", "--out", tmp_path / "some")


def test_a_lost_part_and_a_changed_byte_are_named_and_nothing_is_applied(tmp_path: Path) -> None:
    sides = gap(tmp_path)
    release(sides.near, "v1")
    bundle = sides.carry("bundle", "--split", "1MiB")
    part = bundle / "bundle.tar.002"
    whole = part.read_bytes()
    part.unlink()
    assert "bundle.tar.002 is missing; copy that again" in sides.far.run("apply", bundle, code=1).stderr
    part.write_bytes(whole[:-1])
    assert "bundle.tar.002 has 1048575 bytes, not 1048576" in sides.far.run("apply", bundle, code=1).stderr
    part.write_bytes(whole)
    for part in sorted(bundle.glob("bundle.tar.*")):  # the large layer goes through several of them
        whole = part.read_bytes()
        changed = bytearray(whole)
        changed[1000] ^= 1
        part.write_bytes(changed)
        refused = sides.far.run("apply", bundle, code=1)
        assert refused.stderr.count("error:") == 1
        assert re.findall(r"bundle\.tar\.\d+", refused.stderr) == [part.name]
        assert sides.far.digests() == {}
        assert _sha256sum(bundle).returncode == 1
        part.write_bytes(whole)
    assert _sha256sum(bundle).returncode == 0
    sides.far.run("apply", bundle)
    assert sides.far.digests() == sides.near.digests()


def _sha256sum(bundle: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=bundle, capture_output=True, text=True, check=False
    )


def test_a_bundle_for_another_inventory_says_which_one_is_needed(tmp_path: Path) -> None:
    sides = gap(tmp_path)
    near, far, carried = sides.near, sides.far, sides.carried
    release(near, "v1")
    far.signed("inventory", "--out", carried / "before.json")
    far.run("apply", sides.carry("one", receipt="before.json"))
    release(near, "v2")
    late = sides.carry("late", receipt="before.json")
    refused = far.run("apply", late, code=1).stderr
    assert "was applied since: needed is one for the receipt of that bundle" in refused
    stranger = Side(tmp_path / "stranger", other=near.key)
    refused = stranger.run("apply", late, code=1).stderr
    assert f"made for the store {far.store.uuid}, and this is {stranger.store.uuid}" in refused
    shutil.rmtree(far.folder / "store" / "bundles" / "issued")
    far.signed("receipt", "--out", carried / "receipt.json")
    fresh = sides.carry("fresh", receipt="receipt.json")
    shutil.rmtree(far.folder / "store" / "bundles" / "issued")
    assert "which this store never gave out" in far.run("apply", fresh, code=1).stderr


def test_what_was_refused_is_named_with_its_reason_on_both_sides(tmp_path: Path) -> None:
    sides = gap(tmp_path, policy=ENFORCED)
    release(sides.near, "v1")
    unsigned = sides.near.put("team/app:unsigned", b"nobody signed this")
    done = sides.far.run("apply", sides.carry("one"), code=2)
    assert "error: team/app:unsigned: refused: it has no signature" in done.stderr
    sides.far.signed("receipt", "--out", sides.carried / "receipt.json")
    wanted = ("--for", sides.carried / "receipt.json")
    done = sides.near.signed("create", "--out", sides.carried / "two", *wanted)
    said = "the other side refused it, and nothing of it has changed: it has no signature"
    assert f"left out team/app:unsigned: {said}" in done.stderr
    assert "nothing to carry" in done.stderr
    sides.near.sign("team/app", unsigned)
    sides.near.signed("create", "--out", sides.carried / "two", *wanted)
    found = json.loads(sides.far.run("apply", sides.carried / "two", "--json").stdout)
    assert (found["version"], found["refused"]) == (1, [])
    assert found["applied"]["team/app:unsigned"] == unsigned.digest
    assert found["verdicts"]["team/app:unsigned"].startswith("verified: key sha256:")
    assert sides.far.digests() == sides.near.digests()


def test_an_older_bundle_takes_no_tag_back_unless_it_is_told_to(tmp_path: Path) -> None:
    sides = gap(tmp_path)
    first = release(sides.near, "latest", size=1)
    old = sides.carry("old")
    second = release(sides.near, "latest", size=2)
    sides.far.run("apply", sides.carry("new"))
    refused = sides.far.run("apply", old, code=1).stderr
    assert "so its tags would go back; if that is wanted, add --older" in refused
    assert sides.far.digests()["team/app:latest"] == second.digest
    sides.far.run("apply", old, "--older")
    assert sides.far.digests()["team/app:latest"] == first.digest


def _killed(side: Side, arguments: list[object], enough: Callable[[], bool]) -> None:
    """Run a command, and kill it with -9 as soon as `enough` of its work is to be seen."""
    code = "from flows.cli import main; main()"
    command = [sys.executable, "-c", code, "bundle", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not enough() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.0005)
        process.kill()
        assert process.wait() == -signal.SIGKILL, "it had ended before it could be killed"


def _pool(side: Side) -> dict[str, tuple[int, int]]:
    """What is in the pool, by name: the file and when it was written."""
    found = (side.folder / "store" / "blobs").glob("*/*/*")
    return {each.name: (each.stat().st_ino, each.stat().st_mtime_ns) for each in found}


def _many(side: Side, count: int = 150) -> None:
    for number in range(count):
        side.put(f"team/app:{number}", noise(f"layer-{number}", 150_000))


def test_an_apply_that_was_killed_goes_on_and_writes_nothing_twice(tmp_path: Path) -> None:
    sides = gap(tmp_path)
    _many(sides.near)
    bundle = sides.carry("bundle")
    arguments: list[object] = ["apply", sides.far.profile, bundle]
    before: dict[str, tuple[int, int]] = {}
    for files in (20, 120, 220):  # of 301
        _killed(sides.far, arguments, lambda files=files: len(_pool(sides.far)) > files)  # type: ignore[misc] # a loop's variable
        assert check(sides.far.store) < 150
        assert {name: _pool(sides.far)[name] for name in before} == before
        before = _pool(sides.far)
    unfinished = sides.far.signed("receipt", "--out", sides.carried / "receipt.json", code=1)
    assert "is not applied to its end; run 'bundle apply' with it again" in unfinished.stderr
    sides.far.run("apply", bundle)
    after = _pool(sides.far)
    assert {name: after[name] for name in before} == before
    assert check(sides.far.store) == 150
    assert sides.far.digests() == sides.near.digests()


def test_a_create_that_was_killed_goes_on_with_the_part_that_it_was_at(tmp_path: Path) -> None:
    sides = gap(tmp_path)
    _many(sides.near)
    bundle = sides.carried / "bundle"
    arguments = ["--out", bundle, "--split", "1MiB"]
    key = ["--key", sides.near.key_file]
    second = bundle / "bundle.tar.002"
    _killed(sides.near, ["create", sides.near.profile, *arguments, *key], second.exists)
    first = bundle / "bundle.tar.001"
    before = first.stat().st_ino
    incomplete = sides.far.run("verify", bundle, code=1).stderr
    assert "is no bundle, or an incomplete one: bundle.json: No such file" in incomplete
    other = sides.near.signed("create", *arguments[:2], "--split", "2MiB", code=1).stderr
    assert "begun and not finished, with other options" in other
    sides.near.put("team/app:later", b"this is in the next one")
    sides.near.signed("create", *arguments)
    assert first.stat().st_ino == before
    assert not list(bundle.glob("*.unfinished"))
    assert not list(bundle.glob("*.part"))
    sides.far.run("apply", bundle)
    assert not list(bundle.glob("bundle.plan.json"))
    assert sides.far.digests() == {
        name: digest for name, digest in sides.near.digests().items() if name != "team/app:later"
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Gap:
    """A bundle with everything, in parts, and an inventory."""
    sides = gap(tmp_path_factory.mktemp("whole"))
    signed = release(sides.near, "v1")
    attached = {"mediaType": signed.media_type, "digest": signed.digest, "size": signed.size}
    _attach(sides.near, attached)
    sides.near.put("team/other:v1", b"another layer")
    sides.carry("bundle", "--split", "1MiB")
    sides.near.signed("inventory", "--out", sides.carried / "inventory.json")
    parts = sorted((sides.carried / "bundle").glob("bundle.tar.*"))
    (sides.carried / "whole.tar").write_bytes(b"".join(each.read_bytes() for each in parts))
    return sides


def _attach(side: Side, subject: dict[str, object]) -> None:
    from tests.registry_server.store.images import image, layer

    repository = side.store.repository(RepositoryName("team/app"))
    report = b'{"spdxVersion": "SPDX-2.3"}'
    for content in (b"{}", report):
        repository.put_blob(layer(content), content)
    repository.put_manifest(image(report, subject=subject, artifactType="application/spdx+json"))


def test_skopeo_reads_a_whole_bundle(whole: Gap, tmp_path: Path) -> None:
    source = f"oci-archive:{whole.carried / 'whole.tar'}:team/app:v1"
    done = subprocess.run(
        [program("skopeo"), "inspect", "--raw", source], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    _, body = whole.near.store.repository(RepositoryName("team/app")).read_manifest(Tag("v1"))
    assert done.stdout.encode() == body
    copied = ["copy", source, f"dir:{tmp_path / 'copied'}"]
    done = subprocess.run([program("skopeo"), *copied], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "copied" / hashlib.sha256(SHARED).hexdigest()).read_bytes() == SHARED


def test_oras_reads_a_whole_bundle_and_what_refers_to_its_images(whole: Gap) -> None:
    digest = whole.near.digests()["team/app:v1"]
    reference = f"{whole.carried / 'whole.tar'}@{digest}"
    command = [program("oras"), "discover", "--oci-layout", reference, "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    listed = found.get("referrers") or found.get("manifests")
    assert [each["artifactType"] for each in listed] == ["application/spdx+json"]


def test_cosign_verifies_bundle_and_inventory(whole: Gap) -> None:
    cosign = program("cosign")
    bundle, public = whole.carried / "bundle", whole.near.folder / "side.pub"
    ways = ["verify-blob-attestation", "--insecure-ignore-tlog", "--key", str(public)]

    def verified(*more: object) -> bool:
        environment = {**os.environ, "HOME": str(whole.carried)}
        command = [cosign, *ways, *map(str, more)]
        return subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0

    signature = bundle / "bundle.sigstore.json"
    assert verified("--type", BUNDLE, "--bundle", signature, bundle / "bundle.json")
    assert not verified("--type", BUNDLE, "--bundle", signature, bundle / "SHA256SUMS")
    done = whole.near.signed("inventory", "--out", whole.carried / "again.json")
    digest = done.stderr.strip().rpartition("sha256:")[2]
    by_digest = ("--digest", digest, "--digestAlg", "sha256")
    assert verified("--type", INVENTORY, "--bundle", whole.carried / "again.json", *by_digest)


def test_many_tags_with_one_reason_are_one_line() -> None:
    refused = [(f"team/app:{number}", "no rule") for number in range(5)]
    refused += [("team/app:5", "unsigned"), ("team/api:1", "no rule")]
    assert [*together(refused)] == [
        ("team/app: 5 tags (0, 1, 2, …)", "no rule"),
        ("team/app:5", "unsigned"),
        ("team/api:1", "no rule"),
    ]
