"""The receivers of misses, each called as registry servers call it: its address, the secret, both clocks.

One that fails is replaced by the others without a word to clients, so this is where it shows.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from flows.doctor.findings import Subject
from flows.receiver.call_options import call_options
from registry_server.http.pull_through.webhook_client import ReceiverFailed, call
from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flows.doctor.findings import Finding
    from profiles.model.profile import Profile
    from registry_server.http.pull_through.webhook_client import OnMissOptions
    from registry_server.store.store import Store

_RECEIVERS: Final = Subject("receivers")
_SECONDS: Final = 5.0
# Answered without a request to an upstream: no entry has this registry.
_QUESTION: Final = {"kind": "resolve", "namespace": "doctor.invalid", "repository": "mirrorflow/doctor"}
_START: Final = "start one: mirrorflow receive PROFILE, or mirrorflow up PROFILE"
_MEND: Final = "start it, or give it the secret of http.onMiss.secretFile; clocks may differ by a minute"


@dataclass(frozen=True, slots=True)
class ReceiversCheck:
    """Of a profile whose receivers others can reach."""

    profile: Profile
    store: Store | None

    @property
    def subject(self) -> Subject:
        return _RECEIVERS

    def findings(self) -> Iterator[Finding]:
        """As they are made. Nothing is raised for what receivers do."""
        try:
            options = call_options(self.profile, self.store.uuid if self.store is not None else "")
            if options is None:
                return
            urls = options.urls or tuple(sorted(self.store.receivers.beats() if self.store else ()))
        except MirrorflowError as error:
            yield _RECEIVERS.failed("found", str(error))
            return
        if not urls:
            yield _RECEIVERS.failed("found", "no receiver has a record in the store", _START)
        for url in urls:
            yield _answer(url, options, listed=bool(options.urls))


def is_of(profile: Profile) -> bool:
    """Whether the profile describes receivers that others can reach."""
    return profile.http.on_miss.secret_file is not None


def _answer(url: str, options: OnMissOptions, *, listed: bool) -> Finding:
    try:
        question = {**_QUESTION, "timeout": _SECONDS, "receiver": url}
        asyncio.run(call(url, options.secret, question, _SECONDS, connect=_SECONDS))
    except ReceiverFailed as error:
        if listed:
            return _RECEIVERS.failed(url, str(error), _MEND)
        return _RECEIVERS.failed(url, str(error), f"{_MEND}. One that was killed is forgotten after an hour")
    return _RECEIVERS.ok(url, "answers")
