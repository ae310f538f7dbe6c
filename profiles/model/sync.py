"""What to mirror from where: `sync`, its registry entries, and the port for push notifications."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Self

from pydantic import Field, field_validator, model_validator

from profiles.errors import Refusal, Refusals
from profiles.model.break_glass import BreakGlass
from profiles.model.cache import Size
from profiles.model.fields import DaskAddress, ProfileModel, ProfilePath
from profiles.model.registry_entry import RegistryEntry

if TYPE_CHECKING:
    from profiles.values.upstream_url import UpstreamUrl


class Notifications(ProfileModel):
    """A port at which upstream registries say what was pushed, to be synced at once (docs/on-demand.md)."""

    address: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on; `0.0.0.0` means all of IPv4.",
        examples=["0.0.0.0"],  # noqa: S104 - a text in the documentation
    )
    port: int = Field(
        ge=0, le=65535, description="TCP port to listen on; 0: any that is free.", examples=[8090]
    )
    secret_file: ProfilePath = Field(
        description="File with the secret (16 characters or more) that senders must show. Relative to the "
        "profile.",
        examples=["/etc/mirrorflow/notifications.secret"],
    )


__all__ = ["RegistryEntry", "Sync", "default_name"]


class Sync(ProfileModel):
    """What is mirrored."""

    enable: bool = Field(default=True, description="false: mirror nothing, and serve what is there.")
    credentials_file: ProfilePath | None = Field(
        default=None,
        description="JSON file with credentials: {`host[:port]`: {`username`, `password`}}. Relative to the "
        "profile. Default: what docker and podman are logged in with.",
        examples=["/etc/mirrorflow/credentials.json"],
    )
    download_dir: ProfilePath | None = Field(
        default=None,
        description="Accepted for zot's sake: what arrives is kept in the store itself until it is whole.",
        examples=["/tmp/zot-downloads"],  # noqa: S108 - a text in the documentation
    )
    bytes_per_sec: Size | None = Field(
        default=None,
        description="Most bytes of blobs a second from all registries together (a number, or `50MB`); those "
        "of an entry hold as well. `up` has a process for what is polled and one for what comes on demand, "
        "and each may take as much. Default: no limit.",
        examples=["50MB"],
    )
    processes: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Processes that carry out the steps of a run. 1: threads of the run's own process. More "
        "pay where the CPU is the limit: polls of many tags, and many small images. They share the limits of "
        "the registry entry (`reqConcurrent`, `reqPerSec`, `bytesPerSec`) and those of `sync`; there are no "
        "more of them than `reqConcurrent`.",
        examples=[2],
    )
    engine: DaskAddress | None = Field(
        default=None,
        description="Dask cluster whose workers carry out the steps of runs, instead of this process or "
        "`processes`; the address of its scheduler (`dask://HOST:PORT`, `dask+tls://HOST:PORT`). Needs "
        "mirrorflow[dask]. Default: none.",
        examples=["dask://scheduler.example:8786"],
    )
    notifications: Notifications | None = Field(
        default=None,
        description="Where upstream registries say that something was pushed. Default: nowhere, it is found "
        "when it is polled or asked for.",
    )
    break_glass: tuple[BreakGlass, ...] = Field(
        default=(),
        description="Digests that are admitted before their `minAge`, each with a reason and a last day. A "
        "policy holds for them as for any other.",
    )
    registries: tuple[RegistryEntry, ...] = Field(
        default=(),
        description="The upstream registries, one entry each. On demand they are asked in this order.",
    )

    @model_validator(mode="after")
    def _one_engine(self) -> Self:
        if self.engine is not None and self.processes > 1:
            raise Refusal(
                "engine and processes: steps are carried out by one of them",
                "drop `processes`: the number of Dask workers decides",
                at=("processes",),
                involves=("engine",),
            )
        return self

    @field_validator("registries")
    @classmethod
    def _named(cls, entries: tuple[RegistryEntry, ...]) -> tuple[RegistryEntry, ...]:
        """Every entry has a name of its own; names that the profile gives come first."""
        taken: set[str] = set()
        refusals = []
        for number, entry in enumerate(entries):
            if entry.name and entry.name in taken:
                refusals.append(
                    Refusal(
                        f"{entry.name!r} names an earlier entry too",
                        "give each entry a name of its own",
                        at=(number, "name"),
                    )
                )
            taken.add(entry.name)
        if refusals:
            raise Refusals(tuple(refusals))
        return tuple(entry if entry.name else _with_name(entry, taken) for entry in entries)


def default_name(url: UpstreamUrl) -> str:
    """What an entry is called when the profile does not say: fit for a file and a Prefect deployment."""
    text = "-".join(filter(None, (url.registry, url.api_path, url.path_prefix)))
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:90] or "registry"


def _with_name(entry: RegistryEntry, taken: set[str]) -> RegistryEntry:
    name = base = default_name(entry.urls[0])
    number = 1
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    taken.add(name)
    return entry.model_copy(update={"name": name})
