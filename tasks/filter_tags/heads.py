"""HEADs of the tags of a repository: many at once, and one by one what is not answered plainly."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from registry_server.oci.errors import MirrorflowError
    from tasks.context.mirror_run import MirrorRun
    from tasks.upstream.heads_at_once import BegunHead
    from tasks.upstream.many_heads import Head

R = TypeVar("R", bound=str)


def ask_heads(run: MirrorRun, repository: str, references: Sequence[R]) -> dict[R, Head | MirrorflowError]:
    """What the upstream says of each, or why it does not. Raises `Stopped`.

    One by one is also what opens the connections on which many are asked at once. Where that brings little,
    more and more are asked one by one.
    """
    found: dict[str, Head | MirrorflowError] = {}
    left: Sequence[str] = references
    size = width = run.entry.req_concurrent
    while left:
        many = run.upstream.heads(repository, left)
        found |= many.found
        size = width if len(many.found) >= size else 2 * size
        left = [each for each in left if each not in found and each not in many.begun]
        alone, left = left[:size], left[size:]
        found.update(run.each(partial(_head, run, repository, many.begun), [*many.begun, *alone]))
    return {each: found[each] for each in references}


def _head(run: MirrorRun, repository: str, begun: Mapping[str, BegunHead], reference: str) -> Head:
    return run.upstream.head(repository, reference, begun.get(reference))
