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


class OnMiss(ProfileModel):
    """Who fetches what is missing (docs/on-demand.md). Default: `mirrorflow up` does it itself."""

    url: Annotated[str, AfterValidator(_check_url)] = Field(
        default="",
        description="Where a receiver of your own takes signed POST requests. Default: the built-in one.",
        examples=["http://127.0.0.1:8090/miss"],
    )
    secret_file: ProfilePath | None = Field(
        default=None,
        description="File with the secret that signs the requests; required with `url`. Relative to the "
        "profile. Default: a new secret each time `mirrorflow up` starts.",
        examples=["/etc/mirrorflow/on-miss.secret"],
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

    def _contradictions(self) -> Iterator[Refusal]:
        if self.url and self.secret_file is None:
            yield Refusal(
                "secretFile is required with url",
                "name a file with some 32 random characters that your receiver knows too",
                at=("url",),
                involves=("secretFile",),
            )
        if self.secret_file is not None and not self.url:
            yield Refusal(
                "secretFile is for a receiver of your own, and url is missing",
                "add url, or drop secretFile",
                at=("secretFile",),
                involves=("url",),
            )
