"""Why an image is left out for as long as its digest stays: its format, or what its rules select."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiles.matching import matches_selection
from registry_server.oci import media_types
from tasks.filter_tags.selection import describe
from tasks.manifests.schema1 import SCHEMA1
from tasks.run.errors import NoPlatform
from tasks.upstream.errors import UpstreamSchema1

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry_server.store.repository import Repository
    from tasks.context.mirror_run import MirrorRun
    from tasks.run.values import Image, Target


def declined_before(run: MirrorRun, repository: Repository, targets: Sequence[Target], image: Image) -> str:
    """The reason of the last poll, if it holds still: same digest, same rules. Then no GET is needed."""
    record = repository.poll(run.entry.name)
    known, _, reason = (record.declined.get(str(image.reference), "") if record else "").partition(" ")
    lasting = (SCHEMA1, str(NoPlatform(image.parts.platforms)), _not_selected(targets))
    same = reason in lasting or reason.endswith(f" {SCHEMA1}")
    return reason if known == image.digest and same else ""


def why_declined(run: MirrorRun, targets: Sequence[Target], image: Image) -> str:
    """Why this image is left out as long as its digest stays; "" when it is not. May GET its config."""
    if image.media_type in media_types.SCHEMA1:
        return SCHEMA1
    if _not_selected(targets):
        try:
            document = describe(run, image)
        except UpstreamSchema1:
            return SCHEMA1
        if not any(matches_selection(target.rule, document) for target in targets):
            return _not_selected(targets)
    return ""


def _not_selected(targets: Sequence[Target]) -> str:
    """What to say of an image that no rule selects; "" if one of the rules takes any."""
    expressions = [target.rule.select for target in targets]
    if not all(expressions):
        return ""
    return f"is not selected by `select: {'` or `'.join(map(str, dict.fromkeys(expressions)))}`"
