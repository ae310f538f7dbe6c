"""What `check` says of a profile that loads: what was understood; and whether its keys can be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.reporting.entry_words import describe_rule
from profiles.errors import ProfileInvalid, Severity
from profiles.model.destination import STORE

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from profiles.loader import LoadedProfile
    from profiles.model.profile import Profile
    from profiles.model.sync import RegistryEntry


def describe_profile(profile: Profile) -> Iterator[str]:
    """The profile in a person's words, one line a fact."""
    yield f"store     {profile.storage.where}"
    yield f"server    {profile.http.address}:{profile.http.port}"
    for entry in profile.sync.registries:
        to = "" if entry.to == (STORE,) else f", to {', '.join(entry.to)}"
        yield f"registry  {entry.name}: {_when(entry)}, from {', '.join(str(url) for url in entry.urls)}{to}"
        for rule in entry.content:
            yield f"          takes {strip_markdown(describe_rule(rule))}"
        if entry.only_signed:
            yield "          signed images only: onlySigned checks that a signature exists, and verifies none"
    for each in profile.destinations:
        yield f"elsewhere {each.name}: {each.url}, app/one as {each.repository('app/one', 'ENTRY')}"
    for number, policy in enumerate(profile.verify.rules if profile.verify else ()):
        yield f"verify    rule {number + 1}: {policy.mode} for {', '.join(map(str, policy.match))}"


def stored_violations(profile: Profile) -> Iterator[str]:
    """How many images in the store are not as the policies want them; nothing where there is no store."""
    if profile.verify is None and not any(entry.only_signed for entry in profile.sync.registries):
        return
    from flows.entries import open_store_if_present
    from tasks.stored.images import StoredImages, count_by_entry

    store = open_store_if_present(profile)
    counts = count_by_entry(StoredImages(profile, store).shortfalls()) if store else {}
    for registry, found in counts.items():
        said = ", ".join(f"{count:,} {standing}" for standing, count in found.items())
        yield f"stored    {registry}: images {said}"


def strip_markdown(markdown: str) -> str:
    """Without the backquotes that the Prefect UI draws as code."""
    return markdown.replace("`", "")


def require_usable(loaded: LoadedProfile, severities: Container[Severity]) -> None:
    """What makes requests or rules useless is an error before any of them is made.

    Raises `ProfileInvalid` for warnings of these severities, and `CredentialsInvalid` for a credentials file
    that cannot be used, with the words that a run would fail with.
    """
    if problems := tuple(each for each in loaded.warnings if each.severity in severities):
        raise ProfileInvalid(problems)
    if (file := loaded.profile.sync.credentials_file) is not None and Severity.FAILS in severities:
        from tasks.upstream.login.credential_files import read_credentials

        read_credentials(file, f"{loaded.path}: sync.credentialsFile")


def check_trust(profile: Profile) -> None:
    """Load every key and root that `verify` needs; `onlySigned` needs none. Raises `TrustBroken`."""
    if profile.verify is None:
        return
    from tasks.context.verification import Verification

    for entry in profile.sync.registries:
        Verification.of(profile, entry)


def _when(entry: RegistryEntry) -> str:
    """What the entry is for."""
    demand = "fetched on demand" if entry.on_demand else ""
    if entry.timing is not None:
        return ", ".join(filter(None, (f"polled {entry.timing}", demand)))
    if entry.is_synced:
        return "mirrored only by `mirrorflow sync`"
    whole = f"; all of it only with `sync --registry {entry.name}`" if entry.content else ""
    return f"{demand} alone{whole}" if demand else "unused: it has neither content nor onDemand"
