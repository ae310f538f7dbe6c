"""Invariant 1 under kill -9: orphans perhaps, a dangling tag never; and the next writer goes on.

`MIRRORFLOW_KILLS=200` for as many kills at random moments as one likes.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.store import Store
from tests.registry_server.store.images import check, layer
from tests.support.stored_files import file_of

if TYPE_CHECKING:
    from registry_server.store.filesystem.durability import Durability

HERE = Path(__file__).resolve().parents[4]
WRITER = [sys.executable, "-m", "tests.registry_server.store.filesystem.crash_writer"]
KILLS = int(os.environ.get("MIRRORFLOW_KILLS", "6"))


def test_killed_before_any_of_its_steps_a_writer_leaves_no_dangling_tag(
    tmp_path: Path, durability: Durability
) -> None:
    command = [*WRITER, "sweep", str(tmp_path), durability]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 50  # steps that one publication has: the sweep met the real ones


def test_two_writers_killed_at_random_moments_leave_no_dangling_tag(tmp_path: Path) -> None:
    chance = random.Random(5)  # noqa: S311 - the same test each time, not a secret
    told: dict[tuple[str, str], str] = {}
    for number in range(KILLS):
        said = _killed_together(tmp_path, f"{number}", lines=chance.randrange(1, 60))
        store = Store.open(tmp_path / "store")
        visible = check(store)
        told |= said
        # What a writer was told is visible stays so, unless the other one moved the tag.
        assert visible >= len(told)
        for (name, tag), digest in told.items():
            repository = store.repository(RepositoryName(name))
            assert repository.find_manifest(Digest(digest)).descriptor.digest == digest
            assert repository.find_manifest(Tag(tag)).descriptor.size > 0
    assert told
    print(f"{KILLS} kills of two writers, {len(told)} tags, {visible} visible at the end")


def _killed_together(tmp_path: Path, seed: str, *, lines: int) -> dict[tuple[str, str], str]:
    """Two writers with the same images, killed when the first has said so many lines; tags it told of."""
    command = [*WRITER, "endless", str(tmp_path / "store"), "batch", seed]
    told = {}
    with (
        subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, text=True) as first,
        subprocess.Popen(command, cwd=HERE, stdout=subprocess.DEVNULL) as second,
    ):
        assert first.stdout is not None
        for _ in range(lines):
            words = first.stdout.readline().split()
            if words[0] == "tag":
                told[words[1], words[2]] = words[3]
        first.kill()
        second.kill()
    assert {first.returncode, second.returncode} == {-signal.SIGKILL}
    return told


FILL = """
import sys
from pathlib import Path
from registry_server.oci.reference import RepositoryName
from registry_server.store.store import Store
from tests.registry_server.store.images import layer
content = bytes(range(256)) * 4096
with Store.open(Path(sys.argv[1])).repository(RepositoryName("a")).receive_blob(layer(content)) as incoming:
    incoming.write(content[:700_000])
    print("there", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("torn", [0, 1, 4096], ids=["whole", "a-byte-lost", "a-page-lost"])
def test_after_a_kill_the_next_writer_hashes_what_is_there_and_continues(tmp_path: Path, torn: int) -> None:
    content = bytes(range(256)) * 4096
    blob = layer(content)
    command = [sys.executable, "-c", FILL, str(tmp_path)]
    with subprocess.Popen(command, cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"there\n"
        writer.kill()
    left = tmp_path / "incoming" / blob.digest.replace(":", "-")
    left.write_bytes(left.read_bytes()[: 700_000 - torn])
    repository = Store.open(tmp_path).repository(RepositoryName("b"))
    with repository.receive_blob(blob) as incoming:
        assert incoming.offset == 700_000 - torn
        incoming.write(content[incoming.offset :])
        incoming.commit()
    assert file_of(repository, blob.digest).read_bytes() == content
