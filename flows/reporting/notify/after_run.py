"""Telling receivers at the end of a run, where no `up` does it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from flows.entries import open_store
from flows.lifecycle.accepted_profile import load_accepted
from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from profiles.loader import LoadedProfile

log = logging.getLogger("mirrorflow")


def tell_after_run(profile: Path) -> None:
    """For the flow: its report is saved, and nothing of this changes how the run ended."""
    tell_unless_served(load_accepted(profile), lambda words: log.warning("%s", words))


def tell_unless_served(loaded: LoadedProfile, say: Callable[[str], None]) -> None:
    """`say` is given what does not arrive; it is told with the next run."""
    if not loaded.profile.notify:
        return
    from flows.reporting.notify.notifier import Notifier, tell

    try:
        store = open_store(loaded.profile)
        if not store.is_claimed("up"):
            tell(Notifier(loaded.profile, store), say=say)
    except MirrorflowError as error:
        say(f"notifications: {error}")
