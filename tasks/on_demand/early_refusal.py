"""Refusing a tag at once when its upstream takes no more requests: no thread, no wait, one look at the store.

Many clients may ask for what one upstream does not deliver. Each of them would cost a thread only to be told
that the upstream is busy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry_server.oci.companion_tags import is_companion_tag
from registry_server.oci.digest import Digest
from tasks.on_demand.answers import Miss, refusal
from tasks.on_demand.routing import candidates, route_of

if TYPE_CHECKING:
    from registry_server.oci.reference import Tag
    from tasks.on_demand.answers import Refusal, TagPage
    from tasks.on_demand.context import OnDemandContext


def early_refusal(context: OnDemandContext, miss: Miss | TagPage) -> Refusal | None:
    """The refusal of a tag that is not here, and that no upstream would be asked for now.

    None: it needs a closer look, which may wait. What the store has is never refused here.
    """
    if not isinstance(miss, Miss) or miss.kind != "manifest":
        return None
    tag = miss.reference
    # Which upstream has a companion depends on the image that it accompanies.
    if isinstance(tag, Digest) or is_companion_tag(tag):
        return None
    takers = route_of(candidates(context.profile.sync, miss.repository), tag).candidates
    reason = context.bulkhead.refusal(candidate.entry for candidate in takers)
    if reason is None or _is_known(context, miss, tag):
        return None
    return refusal(miss, reason)


def _is_known(context: OnDemandContext, miss: Miss, tag: Tag) -> bool:
    """Whether the tag is here, is arriving, or is being asked for."""
    return (
        context.asking.is_asked(miss)
        or context.finishing.pending.get((miss.repository, tag)) is not None
        or context.store.repository(miss.repository).tag(tag) is not None
    )
