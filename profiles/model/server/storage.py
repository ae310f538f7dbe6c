"""Where the store is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from profiles.errors import Refusal, Refusals
from profiles.model.fields import PositiveDuration, ProfileModel, ProfilePath
from profiles.model.server.object_storage import Locks, ObjectStorage
from profiles.model.server.retention import Retention
from registry_server.store.filesystem.shared_filesystem import SharedFileSystem
from registry_server.store.gc.retention import GcOptions
from registry_server.store.remote_storage import RemoteStorage

if TYPE_CHECKING:
    from collections.abc import Mapping

_WEEK = 7 * 86400.0
_FIRST_SEGMENT = re.compile(r"/?([a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)/?", re.ASCII)


class StorageOptions(ProfileModel):
    """What the store and each of its subpaths have in common."""

    dedupe: bool = Field(
        default=True, description="Accepted for zot's sake: blobs are always shared within one storage root."
    )
    gc: bool = Field(
        default=True,
        description="Whether garbage collection removes what no tag needs: on `gcInterval` while "
        "`mirrorflow up` runs, and when `mirrorflow store gc` is called.",
    )
    gc_delay: PositiveDuration = Field(
        default=3600.0,
        description="How long content without a tag is kept (seconds, or `1h`); longer than any push takes. "
        "What a run of the mirror brings is safe however long it takes.",
        examples=["1h"],
    )
    gc_interval: PositiveDuration = Field(
        default=3600.0,
        description="Duration between two garbage collections (seconds, or `1h`).",
        examples=["1h"],
    )
    commit: bool = Field(
        default=False,
        description="true: every file is on disk (fsync) before the next step. false: an image is on disk "
        "before its tag appears, which survives a crash as well and is faster.",
    )

    retention: Retention = Field(
        default_factory=Retention,
        description="Which tags and untagged manifests garbage collection deletes. Default: all tags stay.",
    )

    @property
    def durability(self) -> Literal["full", "batch"]:
        """What the store calls `commit`."""
        return "full" if self.commit else "batch"


class SubPath(StorageOptions):
    """A storage root of its own for the repositories below one first path segment."""

    root_directory: Annotated[Path, AfterValidator(Path.expanduser)] = Field(
        description="Folder of this storage root, in which a repository has its full name. A relative path "
        "begins at `storage.rootDirectory`.",
        examples=["/var/lib/mirrorflow-kube"],
    )


class Storage(StorageOptions):
    """Where the store is."""

    root_directory: ProfilePath = Field(
        description="Folder of the store; it is created if missing. Relative to the profile.",
        examples=["/var/lib/mirrorflow"],
    )
    prefect_home: ProfilePath | None = Field(
        default=None,
        description="Folder of mirrorflow's own Prefect server: its database, its logs, and the records of "
        "`up`. One for each store; a disk of this host where the store is on a network file system. Relative "
        "to the profile. Default: `prefect` in `rootDirectory`.",
        examples=["/var/lib/mirrorflow-prefect"],
    )
    shared_file_system: SharedFileSystem = Field(
        default="auto",
        description="How hosts use a network file system under the store. auto: `up`, `store gc` and a "
        "server that accepts pushes refuse one that caches attributes. exclusive: no other host uses the "
        "store. uncached: its caches are turned off, which the mount options do not show.",
    )
    storage_driver: ObjectStorage | None = Field(
        default=None,
        description="Object storage that the store is in. `rootDirectory` is then a folder of each host for "
        "what is on its way in: incoming blobs and uploads. `subPaths` stay folders. Default: the store is "
        "in `rootDirectory`.",
    )
    locks: Locks | None = Field(
        default=None, description="For a store in object storage that several hosts use."
    )
    redirect_blob_url: bool | None = Field(
        default=None,
        alias="redirectBlobURL",
        description="true: clients are sent to the object storage for blobs, by an address that is good for "
        "`redirectLifetime`; they have to reach it. false: the registry server hands them out. Default: true "
        "with `storageDriver`.",
    )
    redirect_lifetime: PositiveDuration = Field(
        default=1200.0,
        description="How long such an address is good for; at most a week.",
        examples=["20m"],
    )
    sub_paths: dict[str, SubPath] = Field(
        default_factory=dict,
        description="Storage roots of their own: {`/first-segment`: {rootDirectory, …}}. The first path "
        "segment of a repository's name chooses.",
    )

    @field_validator("storage_driver", mode="before")
    @classmethod
    def _local_is_none(cls, value: object) -> object:
        """zot's `{name: local}` says what is the case anyway."""
        return None if isinstance(value, dict) and value.get("name") == "local" else value or None

    @field_validator("redirect_lifetime")
    @classmethod
    def _at_most_a_week(cls, seconds: float) -> float:
        if not 1 <= seconds <= _WEEK:
            raise Refusal("such an address is good for a second to a week", "write e.g. '20m'")
        return seconds

    @model_validator(mode="after")
    def _locks_are_of_object_storage(self) -> Self:
        if self.storage_driver is None and self.locks is not None:
            found = "locks of several hosts are for a store in object storage"
            raise Refusal(found, "add storageDriver, or drop locks", at=("locks",))
        return self

    @field_validator("sub_paths")
    @classmethod
    def _first_segments(cls, sub_paths: Mapping[str, SubPath]) -> dict[str, SubPath]:
        refusals = tuple(
            Refusal(
                f"{key!r} is not the first segment of a repository name, which alone chooses the root",
                f"write '/{key.strip('/').partition('/')[0].lower() or 'kube-proxy'}'",
                at=(key,),
            )
            for key in sub_paths
            if not _FIRST_SEGMENT.fullmatch(key)
        )
        if refusals:
            raise Refusals(refusals)
        return {f"/{key.strip('/')}": sub_path for key, sub_path in sub_paths.items()}

    @model_validator(mode="after")
    def _roots_differ(self) -> Self:
        refusals = tuple(
            Refusal(
                f"the folder of the subpath {key} is storage.rootDirectory itself",
                "give it a folder of its own, or drop the subpath",
                at=("subPaths", key, "rootDirectory"),
            )
            for key, root in self.roots().items()
            if root == self.root_directory
        )
        if refusals:
            raise Refusals(refusals)
        return self

    @property
    def where(self) -> str:
        """For messages."""
        return str(self.root_directory) if self.storage_driver is None else self.storage_driver.driver().where

    def remote(self) -> RemoteStorage | None:
        """Where the store is, if not in `root_directory`: what `Store.open` takes."""
        if self.storage_driver is None:
            return None
        locks, redirects = self.locks, self.redirect_blob_url is not False
        return RemoteStorage(
            self.storage_driver.driver(),
            locks_file=str(locks.postgres_url_file or "") if locks else "",
            locks_variable=locks.postgres_url_variable if locks else "",
            redirect_seconds=self.redirect_lifetime if redirects else 0.0,
        )

    def gc_options(self) -> dict[Path, GcOptions]:
        """How garbage is collected in each root, by its folder: what `collect` takes."""
        return {
            folder: GcOptions(each.gc, each.gc_delay, retention=each.retention.rules())
            for folder, each in self._by_folder().items()
        }

    def gc_intervals(self) -> dict[Path, float]:
        """Seconds between two garbage collections, by the folder of the root, where there are any."""
        return {folder: each.gc_interval for folder, each in self._by_folder().items() if each.gc}

    def _by_folder(self) -> dict[Path, StorageOptions]:
        subs = {self.root_directory / sub.root_directory: sub for sub in self.sub_paths.values()}
        return {self.root_directory: self, **subs}

    def roots(self) -> dict[str, Path]:
        """The folder of each subpath, by `/first-segment`: what `Store.open` takes."""
        return {key: self.root_directory / sub.root_directory for key, sub in self.sub_paths.items()}
