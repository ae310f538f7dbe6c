"""A repository of many tags, and runs that ask for all of them at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from registry_server.oci.digest import Digest
from registry_server.oci.reference import Tag
from tasks.filter_tags.heads import ask_heads
from tests.tasks.runs import opened

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tasks.context.mirror_run import MirrorRun
    from tests.support_misbehaving import Misbehaving

NAME = "library/nginx"
TAGS = [Tag(f"t{number:02}") for number in range(40)]
ODD = TAGS[20]
PATH = f"/v2/{NAME}/manifests/{ODD}"
OTHER = Digest.of(b"something else")


def opened_for(folder: Path, upstream: Misbehaving, **entry: Any) -> AbstractContextManager[MirrorRun]:
    return opened(folder, f"http://{upstream.host}", **{"responseHeaderTimeout": "500ms"} | entry)


def warm(run: MirrorRun, filled: Misbehaving) -> None:
    """Open connections, all that a run may have."""
    for _ in range(5):
        ask_heads(run, NAME, [tag for tag in TAGS if tag != ODD])
    filled.seen.clear()
