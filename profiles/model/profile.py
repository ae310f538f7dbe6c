"""A whole profile."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from profiles.errors import Refusals
from profiles.model import destination, notify, tag_rename
from profiles.model.bundles import Bundles
from profiles.model.destination import DestinationEntry
from profiles.model.notify import NotifyReceiver
from profiles.model.own_address import contradictions
from profiles.model.server.http import Http, Log, Ui
from profiles.model.server.storage import Storage
from profiles.model.sync import Sync
from profiles.model.trust.verification import VerificationPart


class Profile(VerificationPart):
    """What to mirror, where to keep it, how to serve it."""

    dist_spec_version: str | None = Field(
        default=None,
        description="Version of the distribution specification, as zot's files have it. It changes nothing.",
        examples=["1.1.1"],
    )
    storage: Storage = Field(description="Where the store is.")
    http: Http = Field(default_factory=Http, description="Where the registry server listens.")
    ui: Ui = Field(default_factory=Ui, description="The page of the mirror.")
    log: Log = Field(default_factory=Log, description="What is logged.")
    sync: Sync = Field(
        default_factory=Sync,
        description="What is mirrored. zot's files have it as `extensions.sync`, which is taken too.",
    )
    bundles: Bundles | None = Field(
        default=None,
        description="What comes over an air gap. Default: nothing does.",
    )

    destinations: tuple[DestinationEntry, ...] = Field(
        default=(),
        description="Other registries that images are written to (docs/destinations.md). A registry entry "
        "names them in `to`.",
    )

    notify: tuple[NotifyReceiver, ...] = Field(
        default=(),
        description="Who is told of failed runs, refused images and the like (docs/notifications.md). "
        "Default: nobody.",
    )

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        refusals = (
            *contradictions(self.sync, self.http),
            *tag_rename.contradictions(self),
            *(self.bundles.missing_trust(self.trust) if self.bundles else ()),
            *destination.contradictions(self),
            *notify.contradictions(self.notify, self.entry_names()),
        )
        if refusals:
            raise Refusals(refusals)
        return self

    def destination(self, name: str) -> DestinationEntry:
        """The destination of that name, which a registry entry's `to` has."""
        return next(each for each in self.destinations if each.name == name)

    def entry_names(self) -> tuple[str, ...]:
        """The names of the registry entries, in the profile's order."""
        return tuple(entry.name for entry in self.sync.registries)
