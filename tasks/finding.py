"""What has changed in one upstream repository: one HEAD a tag, nothing for what is already in place."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from profiles.matching import cools_down, listed_references, matches_selection, platforms_of
from profiles.tag_rules import choose_tags, zot_would_drop, zot_would_take
from registry_server.oci import media_types
from registry_server.oci.companion_tags import is_companion_tag, subject_of
from registry_server.oci.digest import Digest
from registry_server.oci.errors import MirrorflowError
from registry_server.oci.reference import ImageName, Tag
from tasks.choosing import choose_repositories, is_asked_for, literal_names
from tasks.classifying import NO_IMAGE, find_lists
from tasks.companions.finding import find_companions, following
from tasks.cooldown import held_back, note_time, settle, settle_others
from tasks.dropped import DroppedTags
from tasks.errors import LeftOut, NoPlatform, is_retryable, is_stop
from tasks.forms import wanted_form
from tasks.gone import gone_tags
from tasks.images import Findings, Image, Subject
from tasks.in_place import is_in_place, moves
from tasks.ledger import Ledger
from tasks.manifests import with_type
from tasks.owners import other_owner
from tasks.selection import describe
from tasks.upstream.errors import UpstreamNotFound, UpstreamSchema1

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from registry_server.oci.descriptor import Platform
    from registry_server.store.repository import Repository
    from tasks.images import SourceRepository, Target
    from tasks.run import MirrorRun
    from tasks.upstream.registry import Head

    Reference = Tag | Digest
    Heads = dict[Reference, Head | MirrorflowError]

SCHEMA1 = (
    "is in Docker's schema 1 format, whose digest does not cover its bytes: it cannot be verified or kept"
)
NO_TAG = "is not a tag by the rules of distribution-spec"
NO_SUBJECT = "is a companion, and no rule takes the image that it belongs to"
NOT_FOLLOWED = "is a companion, and syncLegacyCosignTags is false"


@dataclass(slots=True)
class _Search:
    """The state of one repository's search; becomes `Findings`."""

    run: MirrorRun
    source: SourceRepository
    # Several rules may want an image under one name: that is one image.
    wanted: dict[ImageName, list[Target]] = field(default_factory=lambda: defaultdict(list))
    changed: list[Image] = field(default_factory=list)
    unchanged: int = 0
    upstream: dict[ImageName, Digest] = field(default_factory=dict)
    problems: dict[ImageName, str] = field(default_factory=dict)
    passing: dict[str, MirrorflowError] = field(default_factory=dict)
    declined: dict[ImageName, str] = field(default_factory=dict)
    dropped: DroppedTags = field(default_factory=DroppedTags)
    roots: dict[Reference, Digest | None] = field(default_factory=dict)  # what a companion's tag leads to
    held: list[Image] = field(default_factory=list)  # in place, and companions of theirs may be not
    settled: set[Digest] = field(default_factory=set)  # images that are in place, or come in
    waiting: dict[Digest, str] = field(default_factory=dict)  # images that are held back, and why
    subjects: dict[Digest, Subject] = field(default_factory=dict)  # images by their digest


def find_changes(run: MirrorRun, source: SourceRepository) -> Findings:
    """List the tags, apply the rules, ask for the digest of each survivor and compare with the store.

    A tag whose HEAD fails is a problem of that tag; a retry asks only for what failed.
    Raises `UpstreamError` if the tags cannot be listed,    `Stopped`.
    """
    search = _Search(run, source)
    listed = all(target.rule.images for target in source.targets)
    tags = [] if listed else _list_tags(run, source)
    if not listed:
        run.lists.note_tags(source.name, tags)
    heads: Heads = {**run.ledger.take_heads(source.name)}
    for target in source.targets:
        _want(search, target, tags, heads)
    _ask(search, (name.reference for name in search.wanted), heads)
    _leave_out_lists(search, heads)
    _count_companions(search, tags)
    search.subjects = _subjects(heads) if search.roots else {}
    for name, targets in search.wanted.items():
        head = heads[name.reference]
        if isinstance(head, MirrorflowError):
            _failed(search, name, head)
        else:
            _weigh(search, name, targets, head)
    if cools_down(run.entry):
        note_time(run)
    if not listed and not run.only:
        for local in dict.fromkeys(target.local for target in source.targets):
            settle_others(run, source.name, local, search.wanted)
    lost, passing = find_companions(run, search.held, search.changed)
    if passing is not None:
        search.passing[f"what refers to images of {source.name}"] = passing
    if search.passing and run.entry.max_retries:
        answered = ((each, head) for each, head in heads.items() if not isinstance(head, MirrorflowError))
        run.ledger.keep_heads(source.name, dict(answered))
    search.unchanged -= sum(image.held for image in search.changed)
    return Findings(
        source,
        tuple(search.changed),
        search.unchanged,
        search.upstream,
        search.problems,
        search.declined,
        search.dropped,
        tuple(note for target in source.targets for note in _zot_notes(source, target, tags)),
        lost,
        search.passing,
        None if listed or run.only else gone_tags(run, source, tags),
    )


def _list_tags(run: MirrorRun, source: SourceRepository) -> list[str]:
    """Of a repository that only the catalog names, and that is not there, none: that is noted.

    Registries go on listing repositories whose last tag was deleted, or whose first push never ended.
    """
    try:
        return run.upstream.tags(source.name)
    except UpstreamNotFound:
        if run.only or source.name in literal_names(run.entry):
            raise
        run.ledger.remark(f"{run.upstream.name}: its catalog has {source.name}, which is not there (404)")
        return []


def ask_again(run: MirrorRun, image: Image) -> Image | None:
    """The image as its tag is now, by all the rules; None where that cannot be said.

    Raises `LeftOut` with the reason of a rule, `UpstreamError`, `Stopped`.
    """
    again = replace(run, only=frozenset({str(image.name)}), ledger=Ledger())
    for source in choose_repositories(run.entry, [image.source]):
        findings = find_changes(again, source)
        if reason := findings.declined.get(image.name):
            raise LeftOut(reason)
        return next((found for found in findings.changed if found.name == image.name), None)
    return None


def _want(search: _Search, target: Target, tags: Sequence[str], heads: Heads) -> None:
    """Note what one rule keeps and this run was asked for, companions included."""
    kept = _references(search, target, tags)
    asked = [reference for reference in kept if _is_asked_for(search, target, reference)]
    if any(map(is_companion_tag, tags)) and search.run.entry.sync_legacy_cosign_tags:
        # A companion that was asked for by name belongs to one of the images that the rule keeps.
        by_name = any(is_companion_tag(item.rpartition(":")[2]) for item in search.run.only)
        companions = _all_companions(search, tags, kept if by_name else asked, heads)
        asked += [tag for tag in companions if not by_name or _follows(search, target, tag, asked, heads)]
    for reference in dict.fromkeys(asked):
        search.wanted[ImageName(target.local, reference)].append(target)


def _leave_out_lists(search: _Search, heads: Heads) -> None:
    """Lists of referrers are no images: what they list follows the image that they are about."""
    answered = {
        name: head for name in search.wanted if not isinstance(head := heads[name.reference], MirrorflowError)
    }
    for name, error in find_lists(search.run, search.source.name, answered).items():
        del search.wanted[name]
        if error is None:
            search.dropped.add(NO_IMAGE, search.source.name, [name.reference])
        else:
            search.problems[name] = str(error)


def _count_companions(search: _Search, tags: Sequence[str]) -> None:
    """Companions that come with no image. A run for some images only does not look for all of them."""
    if search.run.only:
        return
    taken = {name.reference for name in search.wanted}
    left = [tag for tag in dict.fromkeys(tags) if is_companion_tag(tag) and tag not in taken]
    reason = NO_SUBJECT if search.run.entry.sync_legacy_cosign_tags else NOT_FOLLOWED
    search.dropped.add(reason, search.source.name, left)


def _all_companions(
    search: _Search, tags: Sequence[str], subjects: Sequence[Reference], heads: Heads
) -> list[Tag]:
    """The companions of these, and theirs (a signature of an SBOM), each after what it belongs to."""
    found: dict[Tag, None] = {}
    while subjects:
        _ask(search, subjects, heads)
        roots = {_digest(heads[each]): search.roots.get(each) or _digest(heads[each]) for each in subjects}
        new = [tag for tag in _companions(tags, subjects, heads) if tag not in found]
        for tag in new:
            found[tag] = None
            search.roots[tag] = roots[subject_of(tag)]
        subjects = new
    return list(found)


def _subjects(heads: Heads) -> dict[Digest, Subject]:
    """The images among the references, with all their names: what companions are judged by."""
    found: dict[Digest, Subject] = {}
    for reference, head in heads.items():
        if isinstance(head, MirrorflowError) or (isinstance(reference, Tag) and is_companion_tag(reference)):
            continue
        known = found.get(head.digest, Subject(head.digest, head.media_type, ()))
        found[head.digest] = replace(known, references=(*known.references, reference))
    return found


def _digest(head: Head | MirrorflowError) -> Digest | None:
    return None if isinstance(head, MirrorflowError) else head.digest


def _follows(
    search: _Search, target: Target, companion: Tag, asked: Sequence[Reference], heads: Heads
) -> bool:
    return _is_asked_for(search, target, companion) or companion in _companions([companion], asked, heads)


def _references(search: _Search, target: Target, tags: Sequence[str]) -> list[Reference]:
    """The tags and digests that one rule keeps."""
    if target.rule.images:
        return list(listed_references(target.rule, search.source.name))
    choice = choose_tags(target.rule, tags, search.source.name)
    dropped = defaultdict(list)
    for tag, reason in choice.dropped.items():
        dropped[reason].append(tag)
    for reason, found in dropped.items():
        search.dropped.add(reason, search.source.name, found)
    search.dropped.add(NO_TAG, search.source.name, [tag for tag in choice.kept if not Tag.is_valid(tag)])
    return [Tag(tag) for tag in choice.kept if Tag.is_valid(tag)]


def _is_asked_for(search: _Search, target: Target, reference: Reference) -> bool:
    upstream = f"{search.source.name}{'@' if isinstance(reference, Digest) else ':'}{reference}"
    return is_asked_for(search.run.only, str(ImageName(target.local, reference)), upstream)


def _zot_notes(source: SourceRepository, target: Target, tags: Sequence[str]) -> Iterator[str]:
    """zot searches a regex anywhere in a tag: who comes from there shall know what that changes."""
    rule = target.rule.tags
    if rule and rule.regex and (wider := zot_would_take(target.rule, tags)):
        yield (
            f"{source.name}: zot would take {len(wider)} more tags ({_some(wider)}), because it looks for "
            f"regex '{rule.regex}' anywhere in a tag; write '.*(?:{rule.regex}).*' to take them too"
        )
    if rule and rule.exclude_regex and (kept := zot_would_drop(target.rule, tags)):
        yield (
            f"{source.name}: zot would drop {len(kept)} tags that are taken here ({_some(kept)}), because it "
            f"looks for excludeRegex '{rule.exclude_regex}' anywhere in a tag; write "
            f"'.*(?:{rule.exclude_regex}).*' to drop them too"
        )


def _some(tags: Sequence[str]) -> str:
    return ", ".join(tags[:3]) + (", …" if tags[3:] else "")


def _ask(search: _Search, references: Iterable[Reference], heads: Heads) -> None:
    """One HEAD for each reference, however many rules want it. Raises `Stopped`."""
    run, source = search.run, search.source
    ordered = sorted({reference for reference in references if reference not in heads})
    heads.update(run.each(lambda reference: run.upstream.head(source.name, reference), ordered))
    run.check_stopped()  # a HEAD that was not made is no problem of its tag


def _companions(tags: Sequence[str], references: Sequence[Reference], heads: Heads) -> list[Tag]:
    """Signatures, attestations and SBOMs under `sha256-<hex>.*` tags go where their image goes.

    They are looked for among all tags, not the filtered ones: a rule for versions must not lose signatures.
    """
    digests = {_digest(heads[reference]) for reference in references}
    companions = (Tag(tag) for tag in tags if is_companion_tag(tag))
    return [tag for tag in companions if subject_of(tag) in digests]


def _weigh(search: _Search, name: ImageName, targets: Sequence[Target], head: Head) -> None:
    """Put one image on the right pile: in place, changed, declined, or a problem."""
    run = search.run
    repository = run.store.repository(name.repository)
    image = _image(search, name, targets, head, repository)
    search.upstream[name] = image.digest
    try:
        if is_in_place(repository, image.reference, image.digest, image.platforms, image.form):
            search.unchanged += 1
            search.settled.add(image.digest)
            settle(run, image.local, image.reference)
            search.held += [replace(image, held=True)] if image.following else []
        elif reason := other_owner(run.sync, run.entry, image.source, repository, image.reference):
            search.declined[name] = reason
            del search.upstream[name]  # it says nothing about the tag that is here
        elif reason := (
            _declined_before(run, repository, targets, image)
            or _decline(run, targets, image)
            or _held_back(search, targets, image)
        ):
            search.declined[name] = reason
        else:
            search.settled.add(image.digest)
            search.changed.append(with_type(run, image))
    except MirrorflowError as error:
        if is_stop(error):
            raise
        _failed(search, name, error)


def _failed(search: _Search, name: ImageName, error: MirrorflowError) -> None:
    search.problems[name] = str(error)
    if is_retryable(error):
        search.passing[str(name)] = error


def _held_back(search: _Search, targets: Sequence[Target], image: Image) -> str:
    """Why it waits; its companions wait with it."""
    if image.subject is not None and image.subject.digest in search.waiting.keys() - search.settled:
        return f"waits for its image, which is {search.waiting[image.subject.digest]}"
    reason = held_back(search.run, image, [target.rule for target in targets])
    if reason:
        search.waiting[image.digest] = reason
    return reason


def _image(
    search: _Search, name: ImageName, targets: Sequence[Target], head: Head, repository: Repository
) -> Image:
    entry, rules = search.run.entry, [target.rule for target in targets]
    platforms = _all_platforms([platforms_of(entry, rule) for rule in rules])
    form = wanted_form(entry, rules, name.reference, platforms)
    return Image(
        source=search.source.name,
        local=name.repository,
        reference=name.reference,
        digest=head.digest,
        media_type=head.media_type,
        platforms=platforms,
        moves=moves(repository, name.reference, head.digest, form),
        subject=search.subjects.get(root) if (root := search.roots.get(name.reference)) else None,
        following=following(search.run, name.reference, rules),
        form=form,
    )


def _all_platforms(wishes: Sequence[tuple[Platform, ...]]) -> tuple[Platform, ...]:
    """What several rules want of one image: everything, if one of them wants everything."""
    return () if not all(wishes) else tuple(dict.fromkeys(each for wish in wishes for each in wish))


def _declined_before(run: MirrorRun, repository: Repository, targets: Sequence[Target], image: Image) -> str:
    """The reason of the last poll, if it holds still: same digest, same rules. Then no GET is needed."""
    record = repository.poll(run.entry.name)
    known, _, reason = (record.declined.get(str(image.reference), "") if record else "").partition(" ")
    lasting = (SCHEMA1, str(NoPlatform(image.platforms)), _not_selected(targets))
    same = reason in lasting or reason.endswith(f" {SCHEMA1}")
    return reason if known == image.digest and same else ""


def schema1_reason(image: Image, error: UpstreamSchema1) -> str:
    """Why an image is left out: it, or a manifest that its index lists, is in this format."""
    own = error.reference in (image.digest, image.reference)
    return SCHEMA1 if own else f"lists {error.reference}, which {SCHEMA1}"


def _decline(run: MirrorRun, targets: Sequence[Target], image: Image) -> str:
    """Why this image is left out as long as its digest stays; "" when it is not."""
    if image.media_type in media_types.SCHEMA1:
        return SCHEMA1
    if _not_selected(targets):
        try:
            document = describe(run, image)
        except UpstreamSchema1:
            return SCHEMA1
        if not any(matches_selection(target.rule, document) for target in targets):
            return _not_selected(targets)
    return ""


def _not_selected(targets: Sequence[Target]) -> str:
    """What to say of an image that no rule selects; "" if one of the rules takes any."""
    expressions = [target.rule.select for target in targets]
    if not all(expressions):
        return ""
    return f"is not selected by `select: {'` or `'.join(map(str, dict.fromkeys(expressions)))}`"
