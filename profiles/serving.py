"""How the registry server listens, and what is logged."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from profiles.fields import ProfileModel


class Http(ProfileModel):
    """Where the registry server listens."""

    address: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on; `0.0.0.0` means all of IPv4.",
        examples=["0.0.0.0"],  # noqa: S104 - a text in the documentation
    )
    port: int = Field(
        default=8080,
        ge=0,
        le=65535,
        description="TCP port to listen on; 0: any that is free.",
        examples=[5000],
    )


class LogLevel(StrEnum):
    """How much is logged; zot's names."""

    TRACE = "trace"
    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"
    FATAL = "fatal"
    PANIC = "panic"


class Log(ProfileModel):
    """What is logged."""

    level: LogLevel = Field(
        default=LogLevel.INFO,
        description="Log messages of this level and above: trace, debug, info, warn, error, fatal or panic.",
        examples=["debug"],
    )
