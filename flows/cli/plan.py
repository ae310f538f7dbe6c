"""`plan` for several registry entries: against the store, or against an empty one where there is none yet."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from flows.entries import open_store
from profiles.model.destination import STORE
from registry_server.store.errors import StoreMissing
from registry_server.store.store import Store
from tasks.context.mirror_run import open_run
from tasks.planning import Plan, plan_entry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from profiles.model.profile import Profile
    from profiles.model.sync import RegistryEntry


def where_images_are(profile: Profile, entries: Sequence[RegistryEntry]) -> str:
    """What the upstreams are compared with: the store, and destinations by their names."""
    places = dict.fromkeys(place for entry in entries for place in entry.to)
    return ", ".join(str(profile.storage.root_directory) if each == STORE else each for each in places)


def plan_entries(profile: Profile, entries: Sequence[RegistryEntry], *, weigh: bool) -> list[Plan]:
    """One plan an entry, in order. Raises what ends an entry as a whole (no catalog, no connection)."""
    plans = []
    with _store_to_compare(profile) as store:
        for entry in entries:
            with open_run(profile, entry, store) as run:
                plans.append(plan_entry(replace(run, rehearsal=True), weigh=weigh))
    return plans


@contextmanager
def _store_to_compare(profile: Profile) -> Iterator[Store]:
    try:
        yield open_store(profile, create=False)
    except StoreMissing:
        with tempfile.TemporaryDirectory(prefix="mirrorflow-plan-") as folder:
            yield Store.open(Path(folder), durability="none")
