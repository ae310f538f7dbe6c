"""What has changed in one upstream repository: one HEAD a tag, nothing for what is already in place."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from profiles.matching import has_min_age, image_parts_of, wanted_form
from profiles.tag_filter import zot_would_drop, zot_would_take
from registry_server.counted import counted
from registry_server.oci.digest import Digest
from registry_server.oci.errors import MirrorflowError
from registry_server.oci.reference import Tag
from registry_server.store.mirror_state.withheld_digests import all_withheld
from tasks.companions.changes import find_companions, following
from tasks.context.cooldown import held_back, note_time, settle, settle_others
from tasks.destinations.looking import IN_PLACE, Look
from tasks.filter_tags.gone import gone_tags
from tasks.filter_tags.referrer_lists import NO_IMAGE, find_lists, note_of
from tasks.filter_tags.selection import declined_before, why_declined
from tasks.filter_tags.wanted import NO_TAG, Wanted
from tasks.list_catalog import choose_repositories, literal_names
from tasks.manifests.reading import with_type
from tasks.manifests.up_to_date import is_tag_up_to_date, is_up_to_date, moves_from
from tasks.run.errors import SCHEMA1, LeftOut, is_retryable, is_stop
from tasks.run.tag_conflicts import conflicting_source
from tasks.run.values import Findings, Image
from tasks.upstream.errors import UpstreamNotFound, UpstreamSchema1

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence

    from registry_server.oci.reference import ImageName, RepositoryName
    from registry_server.store.records import TagRecord
    from registry_server.store.repository import Repository
    from tasks.context.mirror_run import MirrorRun
    from tasks.destinations.looking import ThereNow
    from tasks.run.values import SourceRepository, Subject, Target
    from tasks.upstream.many_heads import Head


@dataclass(slots=True)
class _Search:
    """The state of one repository's search; becomes `Findings`."""

    run: MirrorRun
    source: SourceRepository
    wanted: Wanted
    began: float
    changed: list[Image] = field(default_factory=list)
    unchanged: int = 0
    upstream: dict[ImageName, Digest] = field(default_factory=dict)
    problems: dict[ImageName, str] = field(default_factory=dict)
    passing: dict[str, MirrorflowError] = field(default_factory=dict)
    declined: dict[ImageName, str] = field(default_factory=dict)
    held: list[Image] = field(default_factory=list)  # in place, and companions of theirs may be not
    settled: set[Digest] = field(default_factory=set)  # images that are in place, or come in
    waiting: dict[Digest, str] = field(default_factory=dict)  # images that are held back, and why
    subjects: dict[Digest, Subject] = field(default_factory=dict)  # images by their digest
    noted: defaultdict[RepositoryName, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    look: Look | None = None  # at destinations that are no store
    present: defaultdict[RepositoryName, set[Digest]] = field(default_factory=lambda: defaultdict(set))
    withheld: dict[RepositoryName, Container[Tag | Digest]] = field(default_factory=dict)

    def withheld_of(self, local: RepositoryName) -> Container[Tag | Digest]:
        """The tags that have a digest withheld. Raises `StoreError`."""
        if local not in self.withheld:
            self.withheld[local] = all_withheld(self.run.store, local)
        return self.withheld[local]


def find_changes(
    run: MirrorRun, source: SourceRepository, heads: Mapping[Tag | Digest, Head] | None = None
) -> Findings:
    """List the tags, apply the rules, ask for the digest of each survivor and compare with the store.

    A tag whose HEAD fails is a problem of that tag. `heads` are answers that need not be asked for again.
    Raises `UpstreamError` if the tags cannot be listed, `Stopped`.
    """
    began = 0.0 if heads else time.time()  # it is not known when those were asked for
    listed = all(target.rule.images for target in source.targets)
    named = [] if listed else _list_tags(run, source)
    tags = [tag for tag in named if Tag.is_valid(tag)]  # users' patterns are not for megabytes of text
    if not listed:
        run.lists.note_tags(source.name, tags)
    search = _Search(run, source, _want(run, source, tags, heads or {}), began)
    search.problems |= search.wanted.problems
    _leave_out_lists(search)
    search.wanted.count_companions(tags)
    search.wanted.dropped.add(NO_TAG, source.name, [tag for tag in named if not Tag.is_valid(tag)])
    search.subjects = search.wanted.subjects()
    for local, number in Counter(name.repository for name in search.wanted.names).items():
        run.store.repository(local).expect(number)
    _weigh_all(search)
    if has_min_age(run.entry):
        note_time(run)
    if not listed and not run.only:
        for local in dict.fromkeys(target.local for target in source.targets):
            settle_others(run, source.name, local, search.wanted.names)
    return _findings(search, tags, listed=listed)


def _want(
    run: MirrorRun, source: SourceRepository, tags: Sequence[str], heads: Mapping[Tag | Digest, Head]
) -> Wanted:
    """What the rules keep, with the upstream's answer for each. Raises `Stopped`."""
    wanted = Wanted(run, source, {**heads})
    for target in source.targets:
        wanted.add_rule(target, tags)
    wanted.ask(wanted.origins[name] for name in wanted.names)
    return wanted


def _findings(search: _Search, tags: Sequence[str], *, listed: bool) -> Findings:
    run, source = search.run, search.source
    following = find_companions(run, search.held)
    for local, notes in following.noted.items():
        search.noted[local].update(notes)
    if following.passing is not None:
        search.passing[f"what refers to images of {source.name}"] = following.passing
    return Findings(
        source,
        (*search.changed, *following.lacking),
        search.unchanged - len(following.lacking),
        search.upstream,
        search.problems,
        search.declined,
        search.wanted.dropped,
        tuple(note for target in source.targets for note in _zot_notes(source, target, tags)),
        following.problem,
        search.passing,
        search.wanted.renamed(),
        None if listed or run.only else gone_tags(run, source, tags),
        search.wanted.answered() if search.passing and run.entry.max_retries else {},
        search.noted,
        run.lists.listed(source.name),
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
        run.live.remark(f"{run.upstream.name}: its catalog has {source.name}, which is not there (404)")
        return []


def ask_again(run: MirrorRun, image: Image) -> Image | None:
    """The image as its tag is now, by all the rules; None where that cannot be said.

    Raises `LeftOut` with the reason of a rule, `UpstreamError`, `Stopped`.
    """
    again = replace(run, only=frozenset({str(image.name)}))
    for source in choose_repositories(run.entry, [image.source]):
        findings = find_changes(again, source)
        if reason := findings.declined.get(image.name):
            raise LeftOut(reason)
        return next((found for found in findings.changed if found.name == image.name), None)
    return None


def _leave_out_lists(search: _Search) -> None:
    """Lists of referrers are no images: what they list follows the image that they are about."""
    names = search.wanted.names
    heads = {name: search.wanted.head_of(name) for name in names}
    answered = {name: head for name, head in heads.items() if not isinstance(head, MirrorflowError)}
    for name, error in find_lists(search.run, search.source.name, answered).items():
        del names[name]
        if error is None:
            search.wanted.dropped.add(NO_IMAGE, search.source.name, [search.wanted.origins[name]])
            search.noted[name.repository].update(note_of(name, answered[name].digest))
        else:
            search.problems[name] = str(error)


def _zot_notes(source: SourceRepository, target: Target, tags: Sequence[str]) -> Iterator[str]:
    """zot searches a regex anywhere in a tag: who comes from there shall know what that changes."""
    rule = target.rule.tags
    if rule and rule.regex and (wider := zot_would_take(target.rule, tags)):
        yield (
            f"{source.name}: zot would take {counted(len(wider), 'more tag')} ({_some(wider)}), because it "
            f"looks for regex '{rule.regex}' anywhere in a tag; write '.*(?:{rule.regex}).*' to take them too"
        )
    if rule and rule.exclude_regex and (kept := zot_would_drop(target.rule, tags)):
        yield (
            f"{source.name}: zot would drop {counted(len(kept), 'tag')} taken here ({_some(kept)}), because "
            f"it looks for excludeRegex '{rule.exclude_regex}' anywhere in a tag; write "
            f"'.*(?:{rule.exclude_regex}).*' to drop them too"
        )


def _some(tags: Sequence[str]) -> str:
    return ", ".join(tags[:3]) + (", …" if tags[3:] else "")


def _weigh_all(search: _Search) -> None:
    run, wanted = search.run, search.wanted
    if run.targets.registries:
        known = [name for name in wanted.names if not isinstance(wanted.head_of(name), MirrorflowError)]
        search.look = Look.at(run.targets, known, run.each)
        run.check_stopped()  # what was not asked is no problem of its tag
    for name, targets in search.wanted.names.items():
        head = search.wanted.head_of(name)
        if isinstance(head, UpstreamSchema1):  # as a GET finds, where HEAD is refused
            search.declined[name] = SCHEMA1
        elif isinstance(head, MirrorflowError):
            _failed(search, name, head)
        else:
            _weigh(search, name, targets, head)


def _weigh(search: _Search, name: ImageName, targets: Sequence[Target], head: Head) -> None:
    """Put one image on the right pile: in place, changed, declined, or a problem."""
    run = search.run
    repository = run.store.repository(name.repository)
    record = None if isinstance(name.reference, Digest) else repository.tag(name.reference)
    image = _image(search, name, targets, head, record)
    search.upstream[name] = image.digest
    try:
        standing = _standing(search, name, image)
        if standing.moved:
            image = replace(image, kept=tuple(standing.moved))
        left = standing.moved.get(run.targets.primary.name, "")
        if not standing.lacking and not left and _is_here(search, repository, image, record):
            search.unchanged += 1
            search.settled.add(image.digest)
            if image.reference in search.withheld_of(image.local):
                settle(run, image.local, image.reference)
            search.held += [replace(image, held=True)] if image.following else []
        elif reason := conflicting_source(run.sync, run.entry, image.source, repository, image.reference):
            search.declined[name] = reason
            del search.upstream[name]  # it says nothing about the tag that is here
        elif reason := (
            left
            or declined_before(run, repository, targets, image)
            or why_declined(run, targets, image)
            or _held_back(search, targets, image)
        ):
            search.declined[name] = reason
        else:
            search.changed.append(with_type(run, image))
            search.settled.add(image.digest)
    except UpstreamSchema1:
        search.declined[name] = SCHEMA1
    except MirrorflowError as error:
        if is_stop(error):
            raise
        _failed(search, name, error)


def _is_here(search: _Search, repository: Repository, image: Image, record: TagRecord | None) -> bool:
    """Many tags name one image: whether that is here is looked up once."""
    if isinstance(image.reference, Digest):
        return is_up_to_date(repository, image.reference, image.digest, image.parts, image.form)
    present = search.present[image.local]

    def has_blob(digest: Digest) -> bool:
        if digest not in present and repository.has_blob(digest):
            present.add(digest)
        return digest in present

    return is_tag_up_to_date(repository, record, image.digest, image.parts, image.form, has_blob=has_blob)


def _standing(search: _Search, name: ImageName, image: Image) -> ThereNow:
    """In other registries. A tag that somebody else has set in one beside the store does not stop the store.

    Raises `DestinationFailed`.
    """
    standing = search.look.judge(name, image.digest) if search.look is not None else IN_PLACE
    if standing.error is not None:
        raise standing.error
    for destination, reason in standing.moved.items():
        if destination != search.run.targets.primary.name:
            search.run.live.remark(f"{name}: {reason}")
    return standing


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
    search: _Search, name: ImageName, targets: Sequence[Target], head: Head, record: TagRecord | None
) -> Image:
    entry, rules = search.run.entry, [target.rule for target in targets]
    parts = image_parts_of(entry, rules)
    form = wanted_form(entry, rules, name.reference, parts)
    origin = search.wanted.origins[name]
    return Image(
        source=search.source.name,
        local=name.repository,
        reference=name.reference,
        digest=head.digest,
        media_type=head.media_type,
        parts=parts,
        was=moves_from(record, head.digest, form),
        subject=search.subjects.get(root) if (root := search.wanted.roots.get(origin)) else None,
        following=following(search.run, name.reference, rules),
        form=form,
        renamed_from=origin if origin != name.reference and isinstance(origin, Tag) else None,
        looked=search.began,
    )
