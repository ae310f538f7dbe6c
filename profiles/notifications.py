"""Where upstream registries say that something was pushed."""

from __future__ import annotations

from pydantic import Field

from profiles.fields import ProfileModel, ProfilePath


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
