"""`mirrorflow lock`, `sync --locked`, and what `plan` says of a lock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.entries import find_entry, open_store
from flows.orchestration.sync import SyncRequest
from profiles.lock_file import FILE_NAME, LockDifference, LockFile, LockInvalid
from profiles.matching import mappings
from profiles.tag_filter import local_tag
from registry_server.oci.errors import MirrorflowError
from registry_server.oci.reference import ImageName, Tag
from registry_server.whole_file import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from profiles.loader import LoadedProfile
    from profiles.lock_file import LockedImage
    from profiles.model.profile import Profile
    from profiles.model.registry_entry import RegistryEntry
    from tasks.planning import Plan


class LockNotWritten(MirrorflowError):
    """It is not known what a sync would take."""


def lock_path(loaded: LoadedProfile, given: Path | None) -> Path:
    """The one that was given, or `mirrorflow.lock` beside the profile."""
    return given or loaded.path.parent / FILE_NAME


def found_lock(loaded: LoadedProfile, given: Path | None) -> LockFile | None:
    """None where none was given, and none is beside the profile. Raises `LockInvalid`."""
    path = lock_path(loaded, given)
    return LockFile.read(path) if given or path.exists() else None


def write_lock(path: Path, plans: Sequence[Plan]) -> LockDifference:
    """Write what the plans take; what the file has of other registry entries stays. Answers what is new.

    Raises `LockNotWritten` where a plan has problems, `LockInvalid` for an older file that is none.
    """
    for plan in plans:
        if plan.problems:
            name, reason = next(iter(plan.problems.items()))
            more = f", and {len(plan.problems) - 1} more" if len(plan.problems) > 1 else ""
            raise LockNotWritten(
                f"{plan.registry}: {name}: {reason}{more}; what cannot be checked cannot be locked, so "
                f"{path} was not written"
            )
    before = LockFile.read(path) if path.exists() else LockFile()
    registries = [plan.registry for plan in plans]
    kept = {name: image for name, image in before.images.items() if image.registry not in registries}
    now = LockFile({**kept, **taken_by(plans).images})
    _write(path, now.encoded())
    return before.compare(now, registries)


def taken_by(plans: Sequence[Plan]) -> LockFile:
    """What the plans would lock."""
    return LockFile({name: image for plan in plans for name, image in plan.taken.items()})


def locked_requests(profile: Profile, lock: LockFile, entries: Sequence[RegistryEntry]) -> list[SyncRequest]:
    """A run for each entry that the lock has images of. Raises `LockInvalid` for what the profile lacks."""
    requests = []
    for entry in entries:
        images = lock.of(entry.name)
        for name, image in images.items():
            _check_rule(entry, name, image)
        if images:
            requests.append(SyncRequest(entry, tuple(sorted(images)), locked=images))
    for registry in sorted({each.registry for each in lock.images.values()}):
        find_entry(profile, registry)
    if not requests:
        raise LockInvalid("the lock has no image of these registry entries; 'mirrorflow lock' writes it anew")
    return requests


def _check_rule(entry: RegistryEntry, name: str, image: LockedImage) -> None:
    """Invariant 5: a lock pins digests; the rules say what comes in, and under which name."""
    local = ImageName.parse(name)
    for rule, repository in mappings(entry, image.source):
        upstream = image.upstream
        text = local_tag(rule, upstream) if isinstance(upstream, Tag) else upstream
        if (repository, text) == (local.repository, local.reference):
            return
    raise LockInvalid(
        f"the lock has {name} from {image.upstream_name} of {entry.name!r}, and no content rule puts that "
        "there any more; 'mirrorflow lock' writes it anew"
    )


def not_as_locked(profile: Profile, requests: Sequence[SyncRequest]) -> Iterator[str]:
    """What the store does not have as the lock says, in words."""
    store = open_store(profile, create=False)
    for request in requests:
        for text, image in sorted(request.locked.items()):
            name = ImageName.parse(text)
            repository = store.repository(name.repository)
            if isinstance(name.reference, Tag):
                record = repository.tag(name.reference)
                found = record.upstream_digest if record else None
            else:
                found = image.digest if repository.has_blob(image.digest) else None
            if found != image.digest:
                yield f"{text} is {found or 'not here'}, and the lock says {image.digest}"


@dataclass(frozen=True, slots=True)
class LockDifferences:
    """What separates a lock from now, by registry entry; None: there is no lock. Falsy when nothing does."""

    by_registry: Mapping[str, LockDifference] | None = None

    def __bool__(self) -> bool:
        return any((self.by_registry or {}).values())

    def to_json(self, registry: str) -> dict[str, Any]:
        """The key `lock` of a plan."""
        return {"lock": None if self.by_registry is None else self.by_registry[registry].to_json()}


def compared(plans: Sequence[Plan], lock: LockFile | None) -> LockDifferences:
    """Each plan with the lock."""
    if lock is None:
        return LockDifferences()
    return LockDifferences({plan.registry: lock.compare(taken_by([plan]), [plan.registry]) for plan in plans})


def lock_lines(differences: LockDifferences) -> Iterator[str]:
    """What `plan` says of the lock, where there is one."""
    for registry, difference in (differences.by_registry or {}).items():
        yield f"{registry}: {in_words(difference)} since {FILE_NAME} was written"
        yield from (f"  {line}" for line in difference_lines(difference))


def difference_lines(difference: LockDifference) -> Iterator[str]:
    """A line for each image, for a terminal."""
    yield from (f"+ {name}@{digest}" for name, digest in difference.added.items())
    for name, (before, after) in difference.moved.items():
        yield f"~ {name}@{before.short} -> {after.short}"
    yield from (f"- {name}@{digest.short}" for name, digest in difference.removed.items())


def in_words(difference: LockDifference) -> str:
    """E.g. `2 added, 1 moved, 0 removed`."""
    added, moved, removed = (len(each) for each in (difference.added, difference.moved, difference.removed))
    return f"{added:,} added, {moved:,} moved, {removed:,} removed"


def render_markdown(plans: Sequence[Plan], differences: LockDifferences) -> Iterator[str]:
    """For a pull request: a section for each registry entry, compared with the lock, or else the store."""
    for plan in plans:
        if differences.by_registry is None:
            yield from _against_store(plan)
        else:
            yield from _against_lock(plan, differences.by_registry[plan.registry])
        yield from _remarks(plan)
        yield ""


def _against_lock(plan: Plan, difference: LockDifference) -> Iterator[str]:
    yield f"### {plan.registry}: {in_words(difference)}"
    yield ""
    if not difference:
        yield f"Nothing has changed since `{FILE_NAME}` was written."
        return
    yield "| image | change | from | to |"
    yield "|---|---|---|---|"
    yield from (f"| `{name}` | added | | `{digest}` |" for name, digest in difference.added.items())
    for name, (before, after) in difference.moved.items():
        yield f"| `{name}` | moved | `{before}` | `{after}` |"
    yield from (f"| `{name}` | removed | `{digest}` | |" for name, digest in difference.removed.items())


def _against_store(plan: Plan) -> Iterator[str]:
    yield f"### {plan.registry}: {len(plan.images):,} changed, {plan.unchanged:,} unchanged"
    yield ""
    if not plan.images:
        yield "The store has everything."
        return
    yield "| image | change | from | to |"
    yield "|---|---|---|---|"
    for image in plan.images:
        yield f"| `{image.image}` | {image.change} | `{image.upstream}` | `{image.digest}` |"


def _remarks(plan: Plan) -> Iterator[str]:
    for title, found in (("refused", plan.refused), ("problem", plan.problems)):
        for name, reason in found.items():
            yield ""
            yield f"- {title}: `{name}`: {_plain(reason)}"


def _plain(text: str) -> str:
    """What others wrote is no markup."""
    return "".join(f"\\{each}" if each in "\\`*_{}[]<>()#+!|~" else each for each in " ".join(text.split()))


def _write(path: Path, content: bytes) -> None:
    try:
        write_whole(path, content)
    except OSError as error:
        raise LockNotWritten(f"{path} cannot be written: {error.strerror}") from error
