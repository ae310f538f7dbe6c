"""Who is told of failed runs, refused images and the like (docs/notifications.md)."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from profiles.errors import Refusal, Refusals
from profiles.model.fields import PositiveDuration, ProfileModel, ProfilePath, RepositoryGlob, TagRegex

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class NotifyEvent(StrEnum):
    """What a receiver can be told of. All but `tagMoved` begin and end."""

    RUN_FAILED = "runFailed"
    RUN_OVERDUE = "runOverdue"
    IMAGE_REFUSED = "imageRefused"
    OBJECTIVE_MISSED = "objectiveMissed"
    TAG_MOVED = "tagMoved"


class NotifyFormat(StrEnum):
    """In which form a message is sent."""

    CLOUDEVENTS = "cloudevents"
    SLACK = "slack"
    TEAMS = "teams"
    ALERTMANAGER = "alertmanager"
    PREFECT = "prefect"


def check_webhook_url(url: str) -> str:
    """Raises `Refusal`, which shows nothing of a URL but its host: the rest may be a secret."""
    write = "write e.g. 'https://hooks.example/mirror'"
    try:
        parts = urlsplit(url)
        port_is_good = parts.port is None or parts.port > 0
    except ValueError as error:
        raise Refusal("this is not a URL", write) from error
    if not url.isascii() or not url.isprintable() or " " in url:
        raise Refusal("a URL has no spaces, and only characters of ASCII", write)
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_good:
        raise Refusal("this is not a URL of http or https", write)
    if parts.username is not None or parts.password is not None:
        raise Refusal("a URL with a user and a password", "drop them: secretFile signs what is sent")
    return url


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise Refusal(
            f"{name!r} cannot name a receiver",
            "write up to 100 letters, digits, '.', '_' and '-', beginning with a letter or digit",
        )
    return name


def _check_variable(name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise Refusal(f"{name!r} is not the name of a variable", "write e.g. 'MIRROR_HOOK'")
    return name


_Variable = Annotated[str, AfterValidator(_check_variable)]


class NotifyReceiver(ProfileModel):
    """One who is told. Each problem is told once when it begins and once when it ends."""

    name: Annotated[str, AfterValidator(_check_name)] = Field(
        description="What commands and messages of errors call it. What it was told is kept under this name.",
        examples=["ops"],
    )
    format: NotifyFormat = Field(
        default=NotifyFormat.CLOUDEVENTS,
        description="`cloudevents`: one CloudEvent (JSON) a message. `slack`: what incoming webhooks of "
        "Slack, Mattermost, Rocket.Chat and Discord (`/slack`) take. `teams`: an Adaptive Card, for a "
        "workflow of Microsoft Teams. `alertmanager`: what receivers of Alertmanager's webhooks take. "
        "`prefect`: events of the Prefect server that runs the mirror, for its automations; it needs no URL.",
        examples=["slack"],
    )
    url: Annotated[str, AfterValidator(check_webhook_url)] | None = Field(
        default=None,
        description="Where messages are posted to. Redirects are not followed. Default: as `urlFile` or "
        "`urlVariable` says.",
        examples=["https://hooks.example/mirror"],
    )
    url_file: ProfilePath | None = Field(
        default=None,
        description="File with the URL, where that is a secret itself, as with Slack and Teams. Relative to "
        "the profile.",
        examples=["/etc/mirrorflow/slack.url"],
    )
    url_variable: _Variable | None = Field(
        default=None, description="Environment variable with the URL.", examples=["SLACK_URL"]
    )
    secret_file: ProfilePath | None = Field(
        default=None,
        description="File with a secret that signs what is sent (Standard Webhooks: HMAC-SHA256). Relative "
        "to the profile. Default: nothing is signed.",
        examples=["/etc/mirrorflow/notify.secret"],
    )
    secret_variable: _Variable | None = Field(
        default=None, description="Environment variable with that secret.", examples=["NOTIFY_SECRET"]
    )
    events: tuple[NotifyEvent, ...] = Field(
        default=tuple(each for each in NotifyEvent if each is not NotifyEvent.TAG_MOVED),
        min_length=1,
        description="What is told: `runFailed`, `runOverdue` (the last success is older than the schedule "
        "allows), `imageRefused` (by a policy), `objectiveMissed` (`objective.maxLag`), `tagMoved` (a run "
        "brought another digest for a tag that was here). Default: all but `tagMoved`.",
        examples=[["runFailed", "tagMoved"]],
    )
    registries: tuple[str, ...] = Field(
        default=(), description="Only these registry entries. Default: all.", examples=[["docker-hub"]]
    )
    repositories: tuple[RepositoryGlob, ...] = Field(
        default=(),
        description="For `imageRefused` and `tagMoved`: only repositories that one of these patterns takes, "
        "by their names here. Default: all.",
        examples=[["library/**"]],
    )
    tags: TagRegex | None = Field(
        default=None,
        description="For `tagMoved`: only tags that this expression takes as a whole, e.g. those of "
        "releases, which should not move. Default: all.",
        examples=[r"v?\d+\.\d+\.\d+"],
    )
    timeout: PositiveDuration = Field(
        default=10.0, description="How long one try to deliver a message may take.", examples=["10s"]
    )

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if refusals := tuple(self._contradictions()):
            raise Refusals(refusals)
        return self

    def _contradictions(self) -> Iterator[Refusal]:
        urls = [key for key in ("url", "url_file", "url_variable") if getattr(self, key) is not None]
        secrets = [key for key in ("secret_file", "secret_variable") if getattr(self, key) is not None]
        if self.format is NotifyFormat.PREFECT:
            for key in (*urls, *secrets):
                yield _not_with(key, "Prefect's own server gets these events", "drop it", "format")
            return
        if not urls:
            write, involved = "add url, urlFile or urlVariable", ("url", "urlFile", "urlVariable", "format")
            yield Refusal("a receiver has no URL", write, at=("name",), involves=involved)
        for several in (urls, secrets):
            for key in several[1:]:
                yield _not_with(key, f"it is said by {_spelled(several[0])} too", "keep one", several[0])


def _not_with(key: str, found: str, write: str, other: str) -> Refusal:
    return Refusal(found, write, at=(_spelled(key),), involves=(_spelled(other),))


def _spelled(key: str) -> str:
    head, *rest = key.split("_")
    return head + "".join(part.title() for part in rest)


def contradictions(receivers: Iterable[NotifyReceiver], entries: Iterable[str]) -> Iterator[Refusal]:
    """Names that two receivers have, and registry entries that there are not; paths begin at the top."""
    known, taken = tuple(entries), set[str]()
    for number, receiver in enumerate(receivers):
        if receiver.name in taken:
            found = f"{receiver.name!r} names an earlier receiver too"
            yield Refusal(found, "give each a name of its own", at=("notify", number, "name"))
        taken.add(receiver.name)
        for place, name in enumerate(receiver.registries):
            if name not in known:
                yield Refusal(
                    f"no registry entry is called {name!r}",
                    f"write the name of an entry ({', '.join(sorted(known)) or 'none'})",
                    at=("notify", number, "registries", place),
                    involves=("sync",),
                )
