"""Cool-down (`minAge`): a digest is admitted only that long after this mirror first saw its tag name it.

The time is the mirror's own. `created` in an image's config is the attacker's, and is not looked at. Until
then the last admitted digest is served.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from profiles.break_glass import break_glass_for
from profiles.durations import format_duration
from profiles.matching import min_age_of
from profiles.tag_rules import is_companion_tag
from registry_server.oci.digest import Digest
from registry_server.oci.reference import Tag
from registry_server.store.first_seen import first_seen, forget_first_seen, note_first_seen, waiting
from tasks.verifying import NotAdmitted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from profiles.content import ContentRule
    from profiles.entry import RegistryEntry
    from registry_server.oci.reference import RepositoryName
    from registry_server.store.store import Store
    from tasks.images import Image
    from tasks.run import MirrorRun

log = logging.getLogger("mirrorflow.cooldown")
HELD_BACK: Final = "held back until "
"""What the reason of every image begins with that waits."""


class HeldBack(NotAdmitted):
    """It is too young; the message says until when."""


def held_back(run: MirrorRun, image: Image, rules: Iterable[ContentRule | None]) -> str:
    """Why an image that is not in the store has to wait, and until when; "" when it need not.

    Notes that it was seen. Companions wait with their image. Raises `StoreError`.
    """
    age = 0.0 if _is_companion(image) else min_age_of(run.entry, rules)
    if not age:
        return ""
    if not isinstance(image.reference, Digest) and _stored_digest(run, image) == image.digest:
        return ""  # admitted before: a platform, or a blob that was lost, is fetched
    now = run.now()
    entries = run.sync.break_glass if run.sync else ()
    if found := break_glass_for(entries, image.digest, now):
        log.warning("%s: admitted before its minAge by sync.breakGlass: %s", image.name, found.reason)
        return ""
    since = _since(run, image, now)
    return "" if now >= since + age else _words(since, age)


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
    age, found = min_age_of(entry, rules), waiting(store, local, reference)
    if found is None or now >= found[1] + age:
        return ""
    return f"{found[0]} is {_words(found[1], age)}"


def _words(since: float, age: float) -> str:
    return f"{HELD_BACK}{_moment(since + age)}: minAge {format_duration(age)}, first seen {_moment(since)}"


def _stored_digest(run: MirrorRun, image: Image) -> Digest | None:
    """The upstream digest that the tag has in the store."""
    assert isinstance(image.reference, Tag), "the caller has looked"
    record = run.store.repository(image.local).tag(image.reference)
    return record.upstream_digest if record else None


def _since(run: MirrorRun, image: Image, now: float) -> float:
    if run.rehearsal:
        known = first_seen(run.store, image.local, image.reference, image.digest)
        return now if known is None else known
    return note_first_seen(run.store, image.local, image.reference, image.digest, now)


def settle(run: MirrorRun, image: Image, rules: Iterable[ContentRule | None]) -> None:
    """What the tag names is here: a digest that was seen in between ages no further. Raises `StoreError`."""
    if not run.rehearsal and not _is_companion(image) and min_age_of(run.entry, rules):
        forget_first_seen(run.store, image.local, image.reference)


def _is_companion(image: Image) -> bool:
    return isinstance(image.reference, Tag) and is_companion_tag(image.reference)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%MZ")
