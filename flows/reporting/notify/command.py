"""`mirrorflow notify`."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from flows.entries import open_store
from flows.reporting.console import complain, say
from flows.reporting.notify.formats import body_of
from flows.reporting.notify.notifier import Notifier, tell, trial_message
from profiles.model.notify import NotifyFormat
from registry_server.oci.errors import MirrorflowError
from tasks.run.errors import NotWanted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from profiles.loader import LoadedProfile
    from profiles.model.notify import NotifyReceiver
    from profiles.model.profile import Profile


def run_notify(loaded: LoadedProfile, names: Sequence[str], *, test: bool, dry_run: bool) -> bool:
    """Whether everything has arrived. Raises `NotWanted` for an unknown receiver, `StoreError`."""
    chosen = _chosen(loaded.profile, names)
    notifier = Notifier(loaded.profile.model_copy(update={"notify": chosen}), open_store(loaded.profile))
    for left in (each for each in chosen if each not in notifier.receivers):
        say(f"{left.name}: no Prefect server is named (PREFECT_API_URL), so it gets no events from here")
    if test:
        tried = [_try(notifier, each) for each in notifier.receivers]
        return all(tried)
    if dry_run:
        for name, message in notifier.preview().items():
            say(f"{name}:")
            sys.stdout.write(body_of(NotifyFormat.CLOUDEVENTS, message, notifier.source)[1].decode() + "\n")
        return True
    return tell(notifier, say=complain)


def _chosen(profile: Profile, names: Sequence[str]) -> tuple[NotifyReceiver, ...]:
    known = {each.name: each for each in profile.notify}
    if not known:
        raise NotWanted("the profile has no receivers; add some to `notify` (docs/notifications.md)")
    for name in names:
        if name not in known:
            raise NotWanted(f"the profile has no receiver {name!r}; it has: {', '.join(known)}")
    return tuple(known[name] for name in names or known)


def _try(notifier: Notifier, receiver: NotifyReceiver) -> bool:
    try:
        notifier.send(receiver, trial_message(time.time()))
    except MirrorflowError as error:
        complain(str(error))
        return False
    say(f"{receiver.name}: it took a test message")
    return True
