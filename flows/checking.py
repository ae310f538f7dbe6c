"""What `check` says of a profile that loads: what was understood, and what cannot be done yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.definitions import describe_rule
from profiles.durations import format_duration
from tasks.errors import NotYet
from tasks.policies import refuse_policies

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiles.model import Profile
    from profiles.sync import RegistryEntry


def understood(profile: Profile) -> Iterator[str]:
    """The profile in a person's words, one line a fact."""
    yield f"store     {profile.storage.root_directory}"
    yield f"server    {profile.http.address}:{profile.http.port}"
    for entry in profile.sync.registries:
        yield f"registry  {entry.name}: {_when(entry)}, from {', '.join(str(url) for url in entry.urls)}"
        for rule in entry.content:
            yield f"          takes {plain(describe_rule(rule))}"


def plain(markdown: str) -> str:
    """Without the backquotes that the Prefect UI draws as code."""
    return markdown.replace("`", "")


def not_yet(profile: Profile) -> list[str]:
    """What the profile asks for and this version cannot do."""
    found = []
    for entry in profile.sync.registries:
        try:
            refuse_policies(entry)
        except NotYet as error:
            found.append(str(error))
    return found


def _when(entry: RegistryEntry) -> str:
    polled = f"every {format_duration(entry.poll_interval)}" if entry.poll_interval else "when told to"
    return f"{polled} and on demand" if entry.on_demand else polled
