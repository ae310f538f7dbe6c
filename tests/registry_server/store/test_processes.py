"""Several processes at one store: each blob is filled once, no tag is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from registry_server.oci.reference import RepositoryName
from registry_server.store.store import Store
from tests.registry_server.store.images import check, layer

HERE = Path(__file__).resolve().parents[3]
CONTENT = bytes(range(256)) * 8192
PROCESSES = 5

# Each waits until all are there, then wants the same blob for a repository of its own.
RECEIVE = """
import sys
from pathlib import Path
from registry_server.oci.reference import RepositoryName
from registry_server.store.store import Store
from tests.registry_server.store.images import layer
content = bytes(range(256)) * 8192
repository = Store.open(Path(sys.argv[1])).repository(RepositoryName(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
with repository.receive_blob(layer(content)) as incoming:
    start = incoming.offset
    if not incoming.complete:
        for at in range(start, len(content), 65536):
            incoming.write(content[at : at + 65536])
        incoming.commit()
print(len(content) - start, flush=True)
"""

TAG = """
import sys
from pathlib import Path
from registry_server.oci.reference import RepositoryName
from registry_server.store.store import Store
from tests.registry_server.store.images import tag_image
repository = Store.open(Path(sys.argv[1])).repository(RepositoryName("shared"))
print("ready", flush=True)
sys.stdin.readline()
for number in range(30):
    tag_image(repository, f"{sys.argv[2]}-{number}", b"%d" % number)
print("done", flush=True)
"""


def together(root: Path, program: str) -> list[str]:
    """Run the program in several processes that start at once; the last line of each."""
    commands = [[sys.executable, "-c", program, str(root), f"p{number}"] for number in range(PROCESSES)]
    running = [
        subprocess.Popen(command, cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for command in commands
    ]
    for each in running:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in running:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    return [each.communicate()[0].strip() for each in running]


def test_a_blob_that_several_processes_want_is_filled_once_and_adopted_by_the_others(tmp_path: Path) -> None:
    moved = [int(line) for line in together(tmp_path, RECEIVE)]
    assert sorted(moved) == [0] * (PROCESSES - 1) + [len(CONTENT)]
    store = Store.open(tmp_path)
    for number in range(PROCESSES):
        assert store.repository(RepositoryName(f"p{number}")).has_blob(layer(CONTENT).digest)
    assert list((tmp_path / "incoming").iterdir()) == []


def test_tags_that_several_processes_set_in_one_repository_are_all_there(tmp_path: Path) -> None:
    # zot #4337: two instances on one store lose each other's tags.
    assert together(tmp_path, TAG) == ["done"] * PROCESSES
    assert check(Store.open(tmp_path)) == PROCESSES * 30
