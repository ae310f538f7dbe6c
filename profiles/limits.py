"""What those who push may take of the registry server."""

from __future__ import annotations

from pydantic import Field

from profiles.fields import PositiveDuration, ProfileModel

_MIB = 1024 * 1024


class HttpLimits(ProfileModel):
    """What those who push may take of the server. Manifests have 4 MiB: clients accept no larger ones."""

    blob_bytes: int = Field(
        default=0,
        ge=0,
        description="Most bytes of one blob; 0: as many as there is room for.",
        examples=[10**10],
    )
    spare_bytes: int = Field(
        default=256 * _MIB,
        ge=0,
        description="Bytes of the disk that no upload may take: deleting needs room too.",
        examples=[10**9],
    )
    body_timeout: PositiveDuration = Field(
        default=60.0, description="How long no byte of a body may come.", examples=["1m"]
    )
    sessions: int = Field(
        default=1000, ge=1, description="Uploads that are open at once, in one storage root."
    )
    client_sessions: int = Field(
        default=200, ge=1, description="The same of one user, or of one address where nobody signs in."
    )
    session_timeout: PositiveDuration = Field(
        default=86400.0,
        description="When an upload is ended that nobody goes on with.",
        examples=["12h"],
    )
    empty_session_timeout: PositiveDuration = Field(
        default=3600.0, description="The same for one without a byte.", examples=["1h"]
    )
    require_blobs: bool = Field(
        default=False, description="true: refuse a pushed image as long as its blobs are not all there."
    )
