"""What has changed in one upstream repository: one HEAD a tag, nothing for what is already in place."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from profiles.matching import listed_references, matches_selection, platforms_of
from profiles.tag_rules import choose_tags, is_companion_tag, zot_would_take
from registry_server.oci import media_types
from registry_server.oci.digest import Digest
from registry_server.oci.errors import InvalidName, MirrorflowError, NotFound
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.reference import ImageName, Tag
from tasks.choosing import is_asked_for
from tasks.images import Findings, Image
from tasks.platforms import wanted_children
from tasks.selection import describe

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from registry_server.oci.descriptor import Platform
    from registry_server.store.records import TagRecord
    from registry_server.store.repository import Repository
    from tasks.images import SourceRepository, Target
    from tasks.run import MirrorRun
    from tasks.upstream.registry import Head

SCHEMA1 = (
    "is in Docker's schema 1 format, whose digest does not cover its bytes: it cannot be verified or kept"
)


@dataclass(slots=True)
class _Search:
    """The state of one repository's search; becomes `Findings`."""

    run: MirrorRun
    source: SourceRepository
    changed: list[Image] = field(default_factory=list)
    unchanged: int = 0
    upstream: dict[ImageName, Digest] = field(default_factory=dict)
    problems: dict[ImageName, str] = field(default_factory=dict)
    declined: dict[ImageName, str] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)


def find_changes(run: MirrorRun, source: SourceRepository) -> Findings:
    """List the tags, apply the rules, ask for the digest of each survivor and compare with the store.

    A tag whose HEAD fails is a problem of that tag; raises `UpstreamError` if the tags cannot be listed.
    """
    search = _Search(run, source)
    listed = all(target.rule.images for target in source.targets)
    tags = [] if listed else run.upstream.tags(source.name)
    wanted = [(target, _references(search, target, tags)) for target in source.targets]
    heads = _heads(search, {reference for _, references in wanted for reference in references})
    if run.entry.sync_legacy_cosign_tags:
        for _, references in wanted:
            _follow_companions(search, tags, references, heads)
    for target, references in wanted:
        for reference in references:
            head = heads[reference]
            if isinstance(head, MirrorflowError):
                search.problems[ImageName(target.local, reference)] = str(head)
            else:
                _weigh(search, target, _image(search, target, reference, head))
    return Findings(
        source,
        tuple(search.changed),
        search.unchanged,
        search.upstream,
        search.problems,
        search.declined,
        dict(search.dropped),
        tuple(note for target in source.targets for note in _zot_notes(source, target, tags)),
    )


def _references(search: _Search, target: Target, tags: Sequence[str]) -> list[Tag | Digest]:
    """The tags and digests that one rule keeps and that this run was asked for."""
    run, source = search.run, search.source
    kept = list(listed_references(target.rule, source.name))
    if not target.rule.images:
        choice = choose_tags(target.rule, tags, source.name)
        search.dropped.update(choice.dropped.values())
        kept = [Tag(tag) for tag in choice.kept if _is_tag(tag)]
    return [
        reference
        for reference in kept
        if is_asked_for(run.only, str(ImageName(target.local, reference)), _joined(source.name, reference))
    ]


def _zot_notes(source: SourceRepository, target: Target, tags: Sequence[str]) -> Iterable[str]:
    """zot searches a regex anywhere in a tag: nobody who comes from there shall mirror less unknowingly."""
    wider = zot_would_take(target.rule, tags)
    if wider and target.rule.tags and target.rule.tags.regex:
        regex = target.rule.tags.regex
        shown = ", ".join(wider[:3]) + (", …" if wider[3:] else "")
        yield (
            f"{source.name}: zot would take {len(wider)} more tags ({shown}), because it looks for "
            f"regex '{regex}' anywhere in a tag; write '.*(?:{regex}).*' to take them too"
        )


def _is_tag(text: str) -> bool:
    """Upstreams send what they like; what is no tag can neither be asked for nor kept."""
    try:
        return bool(Tag(text))
    except InvalidName:
        return False


def _joined(repository: str, reference: Tag | Digest) -> str:
    return f"{repository}{'@' if isinstance(reference, Digest) else ':'}{reference}"


def _heads(search: _Search, references: Iterable[Tag | Digest]) -> dict[Tag | Digest, Head | MirrorflowError]:
    run, source = search.run, search.source
    ordered = sorted(references)
    return dict(run.each(lambda reference: run.upstream.head(source.name, reference), ordered))


def _follow_companions(
    search: _Search,
    tags: Sequence[str],
    references: list[Tag | Digest],
    heads: dict[Tag | Digest, Head | MirrorflowError],
) -> None:
    """Signatures, attestations and SBOMs under `sha256-<hex>.*` tags go where their image goes.

    They are looked for among all tags, not the filtered ones: a rule for versions must not lose signatures.
    """
    found = (heads[reference] for reference in references)
    digests = {head.digest for head in found if not isinstance(head, MirrorflowError)}
    subjects = {f"{digest.algorithm}-{digest.hex}" for digest in digests}
    companions = (Tag(tag) for tag in tags if is_companion_tag(tag))
    mine = [tag for tag in companions if tag.partition(".")[0] in subjects]
    heads.update(_heads(search, (tag for tag in mine if tag not in heads)))
    references.extend(mine)


def _weigh(search: _Search, target: Target, image: Image) -> None:
    """Put one image on the right pile: in place, changed, declined, or a problem."""
    run, name = search.run, image.name
    repository = run.store.repository(image.local)
    search.upstream[name] = image.digest
    if is_in_place(repository, image.reference, image.digest, image.platforms):
        search.unchanged += 1
        return
    try:
        reason = _declined_before(repository, target, image) or _decline(run, target, image)
    except MirrorflowError as error:
        search.problems[name] = str(error)
        return
    if reason:
        search.declined[name] = reason
    else:
        search.changed.append(image)


def _image(search: _Search, target: Target, reference: Tag | Digest, head: Head) -> Image:
    return Image(
        source=search.source.name,
        local=target.local,
        reference=reference,
        digest=head.digest,
        media_type=head.media_type,
        platforms=platforms_of(search.run.entry, target.rule),
        moves=isinstance(reference, Tag)
        and search.run.store.repository(target.local).tag(reference) is not None,
    )


def is_in_place(
    repository: Repository, reference: Tag | Digest, upstream: Digest, platforms: Sequence[Platform]
) -> bool:
    """Whether the store already has what the upstream has now, for all platforms that are wanted."""
    if isinstance(reference, Digest):
        try:
            repository.find_manifest(reference)
        except NotFound:
            return False
        return True
    record = repository.tag(reference)
    if record is None:
        return False
    came_from = record.origin.digest if record.origin else record.digest
    return came_from == upstream and not (record.sparse and _lacks(repository, record, platforms))


def _lacks(repository: Repository, record: TagRecord, platforms: Sequence[Platform]) -> bool:
    """A platform was left out when this index was stored, and the profile wants it by now."""
    descriptor, body = repository.read_manifest(record.digest)
    index = parse_manifest(body, descriptor.media_type)
    return any(child.digest in record.sparse for child in wanted_children(index, platforms))


def _declined_before(repository: Repository, target: Target, image: Image) -> str:
    """The reason of the last poll, if it holds still: same digest, same rule. Then no GET is needed."""
    record = repository.poll()
    known, _, reason = (record.declined.get(str(image.reference), "") if record else "").partition(" ")
    return reason if known == image.digest and reason in (SCHEMA1, _not_selected(target)) else ""


def _decline(run: MirrorRun, target: Target, image: Image) -> str:
    """Why this image is left out as long as its digest stays; "" when it is not."""
    if image.media_type in media_types.SCHEMA1:
        return SCHEMA1
    if target.rule.select is not None and not matches_selection(target.rule, describe(run, image)):
        return _not_selected(target)
    return ""


def _not_selected(target: Target) -> str:
    return f"is not selected by `select: {target.rule.select}`"
