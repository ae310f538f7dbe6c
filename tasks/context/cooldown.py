"""Cool-down (`minAge`): a digest is admitted only that long after this mirror first saw its tag name it.

The time is that of the mirror's clock. `created` in an image's config can be forged, and is not used.
Until then the last admitted digest is served.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from profiles.matching import min_age_of
from profiles.model.break_glass import break_glass_for
from profiles.values.durations import format_duration
from registry_server.oci.companion_tags import is_companion_tag
from registry_server.oci.digest import Digest
from registry_server.oci.reference import ImageName, Tag
from registry_server.store.errors import StoreError
from registry_server.store.mirror_state.withheld_digests import (
    Withheld,
    all_withheld,
    find_withheld,
    forget_withheld,
    latest_time,
    put_withheld,
)
from tasks.run.errors import NotAdmitted

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from profiles.model.content_rule import ContentRule
    from profiles.model.registry_entry import RegistryEntry
    from registry_server.oci.reference import RepositoryName
    from registry_server.store.store import Store
    from tasks.context.mirror_run import MirrorRun
    from tasks.run.values import Image

log = logging.getLogger("mirrorflow.cooldown")
HELD_BACK: Final = "held back until "
"""The reason of every image that waits begins with this."""


class HeldBack(NotAdmitted):
    """The digest is too young; the message says until when it waits."""


def held_back(run: MirrorRun, image: Image, rules: Iterable[ContentRule | None]) -> str:
    """Why an image that is not in the store has to wait, and until when; "" when it need not.

    Notes that it was seen. Companions wait with their image. Raises `StoreError`.
    """
    age = 0.0 if _is_companion(image.reference) else min_age_of(run.entry, rules)
    if not age:
        return ""
    if not isinstance(image.reference, Digest) and _stored_digest(run, image) == image.digest:
        return ""  # admitted before: a platform, or a blob that was lost, is fetched
    now = run.now()
    entries = run.sync.break_glass if run.sync else ()
    if found := break_glass_for(entries, image.digest, now):
        log.warning("%s: admitted before its minAge by sync.breakGlass: %s", image.name, found.reason)
        return ""
    seen = _seen(run, image)
    seen = replace(seen, until=seen.since + age)
    if not run.rehearsal:
        put_withheld(run.store, image.local, image.reference, seen)
    return "" if now >= seen.until else words(seen)


def words(withheld: Withheld) -> str:
    """Until when a digest waits, and why."""
    age = format_duration(withheld.until - withheld.since)
    return f"{HELD_BACK}{_moment(withheld.until)}: minAge {age}, first seen {_moment(withheld.since)}"


def still_waiting(
    store: Store,
    entry: RegistryEntry,
    rules: Iterable[ContentRule | None],
    *,
    local: RepositoryName,
    reference: Tag,
    now: float,
) -> str:
    """Which digest of a tag waits and until when, as far as the store knows; "" for none."""
    age, found = min_age_of(entry, rules), find_withheld(store, local, reference)
    if found is None or now >= found.since + age:
        return ""
    return f"{found.digest} is {words(replace(found, until=found.since + age))}"


def note_refused(run: MirrorRun, image: Image, reason: str) -> None:
    """A tag that is here moved upstream to something that a policy refuses: `status` shows it.

    What is not here is not noted, so that clients cannot make files by asking. Raises `StoreError`.
    """
    if run.rehearsal or isinstance(image.reference, Digest) or _stored_digest(run, image) is None:
        return
    seen = _seen(run, image)
    put_withheld(run.store, image.local, image.reference, replace(seen, refused=reason))


def note_time(run: MirrorRun) -> float:
    """Tell the store the time; the latest that it knows, in unix seconds.

    A store that refuses (it is full, or read-only) is logged: what is in place is in place all the same.
    """
    now = run.now()
    try:
        return latest_time(run.store, now, write=not run.rehearsal)
    except StoreError as error:
        log.warning("the time cannot be remembered: %s", error)
        return latest_time(run.store, now, write=False)


def _seen(run: MirrorRun, image: Image) -> Withheld:
    """Since when the reference names the digest: from now on, if it was not noted."""
    latest = note_time(run)
    found = find_withheld(run.store, image.local, image.reference)
    if found is not None and found.digest == image.digest:
        return found
    return Withheld(run.entry.name, image.source, image.digest, latest)


def _stored_digest(run: MirrorRun, image: Image) -> Digest | None:
    """The upstream digest that the tag has in the store."""
    assert isinstance(image.reference, Tag), "the caller has looked"
    record = run.store.repository(image.local).tag(image.reference)
    return record.upstream_digest if record else None


def settle(run: MirrorRun, local: RepositoryName, reference: Tag | Digest) -> None:
    """The tag names what is here, or nothing: a digest that was seen in between starts again.

    A reference by digest names nothing else later, so its time stays. Raises `StoreError`.
    """
    if not run.rehearsal and isinstance(reference, Tag) and not is_companion_tag(reference):
        forget_withheld(run.store, local, reference)


def settle_gone(run: MirrorRun, source: str, local: RepositoryName, reference: Tag | Digest) -> None:
    """`settle`, if what is withheld is of this upstream repository, which has no such tag any more."""
    found = find_withheld(run.store, local, reference)
    if found is not None and (found.registry, found.source) == (run.entry.name, source):
        settle(run, local, reference)


def settle_others(run: MirrorRun, source: str, local: RepositoryName, wanted: Container[ImageName]) -> None:
    """`settle_gone` for all tags but those that a run wants of the upstream repository."""
    for reference in all_withheld(run.store, local):
        if ImageName(local, reference) not in wanted:
            settle_gone(run, source, local, reference)


def _is_companion(reference: Tag | Digest) -> bool:
    return isinstance(reference, Tag) and is_companion_tag(reference)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%MZ")
