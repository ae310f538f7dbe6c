"""Programs that are killed: run by test_crash.py, never imported by it.

python -m tests.registry_server.store.filesystem.crash_writer endless ROOT DURABILITY SEED
python -m tests.registry_server.store.filesystem.crash_writer sweep ROOT DURABILITY
"""

from __future__ import annotations

import os
import random
import signal
import sys
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, cast

from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.store import Store
from tests.registry_server.store.images import check, image, index, layer, record

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry_server.store.filesystem.durability import Durability
    from registry_server.store.repository import Repository

# What Python announces before it does it (PEP 578): every step of the store that changes a name.
STEPS = frozenset(
    {
        "open",
        "os.rename",
        "os.remove",
        "os.mkdir",
        "os.rmdir",
        "os.link",
        "os.truncate",
        "os.chmod",
        "os.utime",
        "fcntl.fcntl",
    }
)


def receive(repository: Repository, content: bytes, said: Callable[[str], None]) -> None:
    descriptor = layer(content)
    if repository.adopt_blob(descriptor.digest):
        return
    with repository.receive_blob(descriptor) as incoming:
        if incoming.complete:
            return
        for start in range(incoming.offset, len(content), 4096):
            incoming.write(content[start : start + 4096])
            said("wrote")
        incoming.commit()
        said("committed")


def publish(repository: Repository, tag: str, layers: list[bytes], said: Callable[[str], None]) -> None:
    """Two images and an index over them, with a referrer; then the tag."""
    children = [image(*layers[:2]), image(*layers[1:], config=b'{"os":"linux"}')]
    for content in [b"{}", b'{"os":"linux"}', *layers]:
        receive(repository, content, said)
    for child in children:
        repository.put_manifest(child)
    descriptor = repository.put_manifest(index(*children))
    repository.put_manifest(image(subject=descriptor.to_json(), artifactType="x/signature"))
    said("manifests")
    repository.put_tag(Tag(tag), record(descriptor))
    said(f"tag {repository.name} {tag} {descriptor.digest}")


def endless(root: Path, durability: Durability, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - the same test each time, not a secret
    shared = random.Random(0).randbytes(30_000)  # noqa: S311 - as above
    store = Store.open(root, durability=durability)
    for number in count():
        repository = store.repository(RepositoryName(f"library/{chance.choice('abc')}"))
        layers = [chance.randbytes(chance.randrange(40_000)), shared, b"%d" % number]
        publish(repository, f"t{chance.randrange(5)}", layers, lambda line: print(line, flush=True))


def sweep(root: Path, durability: Durability) -> None:
    """Kill a child before its first step, before its second, … until one comes through."""
    killed = 0
    for kill_at in count(1):
        place = root / str(kill_at)
        status = in_child(partial(_doomed, place, durability, kill_at))
        visible = check(Store.open(place))
        if status == 0:
            break
        killed += 1
        _publish_once(place, durability)  # nothing that was left behind is in the way
        assert check(Store.open(place)) == 1
    assert visible == 1
    print(killed)


def _publish_once(place: Path, durability: Durability) -> None:
    repository = Store.open(place, durability=durability).repository(RepositoryName("library/nginx"))
    publish(repository, "1", [b"first" * 2000, b"shared" * 3000, b"last"], lambda _: None)


def _doomed(place: Path, durability: Durability, kill_at: int) -> None:
    killed_at(kill_at)
    _publish_once(place, durability)


def killed_at(step: int) -> None:
    """Kill this process before the step of that number from now on."""
    steps = count(1)

    def kill(event: str, _: object) -> None:
        if event in STEPS and next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(kill)


def in_child(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    try:
        work()
    except BaseException:  # noqa: BLE001 - a child must never return into the loop of its parent
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    what, where, how = sys.argv[1:4]
    if what == "endless":
        endless(Path(where), cast("Durability", how), int(sys.argv[4]))
    else:
        sweep(Path(where), cast("Durability", how))
