"""The webhook that the server calls when something is not in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from profiles.errors import Refusal, Refusals
from profiles.model.fields import PositiveDuration, ProfileModel, ProfilePath

if TYPE_CHECKING:
    from collections.abc import Iterator


def _check_url(url: str) -> str:
    if url and not url.startswith(("http://", "https://")):
        raise Refusal(f"{url!r} is not a URL of http or https", "write e.g. 'http://127.0.0.1:8090/miss'")
    return url


_Url = Annotated[str, AfterValidator(_check_url)]


class OwnReceiver(ProfileModel):
    """Where mirrorflow's own receiver listens, so that registry servers of other hosts reach it."""

    address: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on; `0.0.0.0` means all of IPv4.",
        examples=["0.0.0.0"],  # noqa: S104 - a text in the documentation
    )
    port: int = Field(
        default=8091,
        ge=0,
        le=65535,
        description="TCP port to listen on; 0: any that is free.",
        examples=[8091],
    )
    url: _Url = Field(
        default="",
        description="How registry servers reach it. Default: `http://`, the address (for all addresses, the "
        "name of its host) and the port.",
        examples=["http://fill-1.example:8091/"],
    )


class OnMiss(ProfileModel):
    """Who fetches what is missing (docs/on-demand.md). Default: `mirrorflow up` does it itself."""

    url: _Url = Field(
        default="",
        description="Where a receiver takes signed POST requests: one of your own, or `mirrorflow receive`. "
        "Default: the receiver of `mirrorflow up`, and those that `receiver` describes.",
        examples=["http://127.0.0.1:8090/miss"],
    )
    urls: tuple[_Url, ...] = Field(
        default=(),
        description="Several, with `url` or without it: each repository belongs to one of them, and the "
        "others stand in for one that does not answer.",
        examples=[["http://fill-1.example:8091/", "http://fill-2.example:8091/"]],
    )
    secret_file: ProfilePath | None = Field(
        default=None,
        description="File with the secret that signs the requests; required with `url`, `urls` and "
        "`receiver`. Relative to the profile. Default: a new secret each time `mirrorflow up` starts.",
        examples=["/etc/mirrorflow/on-miss.secret"],
    )
    receiver: OwnReceiver | None = Field(
        default=None,
        description="Where the receivers of `mirrorflow up` and `mirrorflow receive` listen, for registry "
        "servers of other hosts, which find them by a record in the store. Default: only the server of the "
        "same `up` reaches its receiver.",
    )
    timeout: PositiveDuration = Field(
        default=60.0,
        description="How long a client waits for what is fetched to begin to arrive.",
        examples=["60s"],
    )

    failures_per_minute: int = Field(
        default=0,
        ge=0,
        description="How many requests for content that is not stored may fail in a minute for one client "
        "(its user, else its address), in each server process; more are answered with 429. A count; "
        "0: no limit.",
        examples=[300],
    )

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        refusals = tuple(self._contradictions())
        if refusals:
            raise Refusals(refusals)
        return self

    @property
    def all_urls(self) -> tuple[str, ...]:
        """Those of `url` and `urls`, each once; none: receivers are found in the store."""
        return tuple(dict.fromkeys((*filter(None, (self.url,)), *self.urls)))

    def _contradictions(self) -> Iterator[Refusal]:
        needing = [key for key in ("url", "urls", "receiver") if getattr(self, key)]
        if needing and self.secret_file is None:
            yield Refusal(
                f"secretFile is required with {needing[0]}",
                "name a file with some 32 random characters that the other side knows too",
                at=(needing[0],),
                involves=("secretFile",),
            )
        if self.secret_file is not None and not needing:
            yield Refusal(
                "secretFile is for receivers that others reach, and none is described",
                "add url or urls, or receiver: {address: 0.0.0.0}, or drop secretFile",
                at=("secretFile",),
                involves=("url",),
            )
