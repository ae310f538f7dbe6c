"""The tags and digests of an upstream repository that a run looks at: what rules keep, and its companions."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from profiles.matching import listed_references
from profiles.tag_filter import choose_tags, local_tag, why_not_taken
from registry_server.oci.companion_tags import is_companion_tag, subject_of
from registry_server.oci.digest import Digest
from registry_server.oci.errors import MirrorflowError
from registry_server.oci.reference import ImageName, Tag
from tasks.filter_tags.heads import ask_heads
from tasks.run.dropped_tags import DroppedTags
from tasks.run.only import is_asked_for
from tasks.run.values import Subject
from tasks.upstream.errors import UpstreamNotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tasks.context.mirror_run import MirrorRun
    from tasks.run.values import SourceRepository, Target
    from tasks.upstream.many_heads import Head

Reference: TypeAlias = Tag | Digest
Heads: TypeAlias = "dict[Reference, Head | MirrorflowError]"

NO_TAG = "is not a tag by the rules of distribution-spec"
NO_SUBJECT = "is a companion, and no rule takes the image that it belongs to"
NOT_FOLLOWED = "is a companion, and syncLegacyCosignTags is false"


class LockedImageGone(MirrorflowError):
    """A lock names a digest that the upstream no longer has."""


@dataclass(slots=True)
class Wanted:
    """What is wanted of one repository, by its name here. `heads` are the upstream's answers so far.

    Several rules may want an image under one name: that is one image. `roots` are the images that tags of
    companions lead to, `origins` the upstream's tags or digests, `problems` what `tags.rename` cannot do.
    """

    run: MirrorRun
    source: SourceRepository
    heads: Heads
    names: dict[ImageName, list[Target]] = field(default_factory=lambda: defaultdict(list))
    roots: dict[Reference, Digest | None] = field(default_factory=dict)
    dropped: DroppedTags = field(default_factory=DroppedTags)
    origins: dict[ImageName, Reference] = field(default_factory=dict)
    problems: dict[ImageName, str] = field(default_factory=dict)

    def add_rule(self, target: Target, tags: Sequence[str]) -> None:
        """Note what one rule keeps and this run was asked for, companions included. Raises `Stopped`."""
        kept = self._references(target, tags)
        asked = [reference for reference in kept if self._is_asked_for(target, reference)]
        if any(map(is_companion_tag, tags)) and self.run.entry.sync_legacy_cosign_tags:
            # A companion that was asked for by name belongs to one of the images that the rule keeps.
            by_name = any(is_companion_tag(item.rpartition(":")[2]) for item in self.run.only)
            companions = self._all_companions(tags, kept if by_name else asked)
            asked += [tag for tag in companions if not by_name or self._follows(target, tag, asked)]
        for reference in dict.fromkeys(asked):
            self._add(target, reference)

    def _add(self, target: Target, reference: Reference) -> None:
        """Under its name here. Two tags of the upstream cannot have one name: then neither is brought in."""
        text = _local_reference(target, reference)
        if isinstance(reference, Tag) and not Tag.is_valid(text):
            name = ImageName(target.local, reference)
            self.problems[name] = f"tags.rename makes {text!r} of it, which {NO_TAG}"
            return
        name = ImageName(target.local, reference if text == reference else Tag(text))
        first = self.origins.setdefault(name, reference)
        if first != reference:
            self.problems[name] = (
                f"tags.rename gives this name to both {first} and {reference} of {self.source.name}; change "
                "it so that each tag has a name of its own"
            )
            self.names.pop(name, None)
        elif name not in self.problems:
            self.names[name].append(target)

    def head_of(self, name: ImageName) -> Head | MirrorflowError:
        return self.heads[self.origins[name]]

    def renamed(self) -> dict[ImageName, str]:
        """The upstream's tag of each image that has another one here."""
        return {name: str(origin) for name, origin in self.origins.items() if origin != name.reference}

    def ask(self, references: Iterable[Reference]) -> None:
        """One HEAD for each reference, however many rules want it. Raises `Stopped`."""
        ordered = sorted({reference for reference in references if reference not in self.heads})
        if self.run.locked:
            self.heads.update(self.run.each(self._head, ordered))
        else:
            self.heads.update(ask_heads(self.run, self.source.name, ordered))
        self.run.check_stopped()  # a HEAD that was not made is no problem of its tag

    def _head(self, reference: Reference) -> Head:
        """What the upstream names so; where a lock says what that is, whether the upstream has it."""
        locked = (
            each
            for each in self.run.locked.values()
            if (each.source, each.reference) == (self.source.name, reference)
        )
        digest = next((each.digest for each in locked), None)
        try:
            return self.run.upstream.head(self.source.name, digest or reference)
        except UpstreamNotFound as error:
            if digest is None:
                raise
            raise LockedImageGone(
                f"the upstream does not have {digest} any more, which the lock names"
            ) from error

    def answered(self) -> Mapping[Reference, Head]:
        """Every reference that the upstream knows."""
        return {
            reference: head for reference, head in self.heads.items() if not isinstance(head, MirrorflowError)
        }

    def subjects(self) -> dict[Digest, Subject]:
        """The images among the references, with all their names: what companions are judged by."""
        found: dict[Digest, Subject] = {}
        for reference, head in self.answered().items() if self.roots else ():
            if isinstance(reference, Tag) and is_companion_tag(reference):
                continue
            known = found.get(head.digest, Subject(head.digest, head.media_type, ()))
            found[head.digest] = replace(known, references=(*known.references, reference))
        return found

    def count_companions(self, tags: Sequence[str]) -> None:
        """Companions that come with no image. A run for some images only does not look for all of them."""
        if self.run.only:
            return
        taken = {self.origins[name] for name in self.names}
        left = [tag for tag in dict.fromkeys(tags) if is_companion_tag(tag) and tag not in taken]
        reason = NO_SUBJECT if self.run.entry.sync_legacy_cosign_tags else NOT_FOLLOWED
        self.dropped.add(reason, self.source.name, left)

    def _references(self, target: Target, tags: Sequence[str]) -> list[Reference]:
        """The tags and digests that one rule keeps, or that a lock names for it."""
        if self.run.locked:
            return self._locked_references(target)
        if target.rule.images:
            return list(listed_references(target.rule, self.source.name))
        choice = choose_tags(target.rule, tags, self.source.name)
        dropped = defaultdict(list)
        for tag, reason in choice.dropped.items():
            dropped[reason].append(tag)
        for reason, found in dropped.items():
            self.dropped.add(reason, self.source.name, found)
        return [Tag(tag) for tag in choice.kept]

    def _locked_references(self, target: Target) -> list[Reference]:
        """Whatever other tags there are by now: `newest` does not count. The rest of the rule does, where one
        takes the tag at all."""
        names = (ImageName.parse(name) for name in self.run.locked)
        found = [
            each.upstream
            for name, each in zip(names, self.run.locked.values(), strict=True)
            if (each.source, name.repository) == (self.source.name, target.local)
        ]
        rules = [each.rule for each in self.source.targets if each.local == target.local]
        return [
            reference
            for reference in found
            if not why_not_taken(target.rule, self.source.name, reference)
            or all(why_not_taken(rule, self.source.name, reference) for rule in rules)
        ]

    def _is_asked_for(self, target: Target, reference: Reference) -> bool:
        separator = "@" if isinstance(reference, Digest) else ":"
        local = f"{target.local}{separator}{_local_reference(target, reference)}"
        return is_asked_for(self.run.only, local, f"{self.source.name}{separator}{reference}")

    def _follows(self, target: Target, companion: Tag, asked: Sequence[Reference]) -> bool:
        return self._is_asked_for(target, companion) or companion in self._companions([companion], asked)

    def _all_companions(self, tags: Sequence[str], subjects: Sequence[Reference]) -> list[Tag]:
        """The companions of these, and theirs (a signature of an SBOM), each after what it belongs to."""
        found: dict[Tag, None] = {}
        while subjects:
            self.ask(subjects)
            roots = {self._digest(each): self.roots.get(each) or self._digest(each) for each in subjects}
            new = [tag for tag in self._companions(tags, subjects) if tag not in found]
            for tag in new:
                found[tag] = None
                self.roots[tag] = roots[subject_of(tag)]
            subjects = new
        return list(found)

    def _companions(self, tags: Sequence[str], references: Sequence[Reference]) -> list[Tag]:
        """Signatures, attestations and SBOMs under `sha256-<hex>.*` tags go where their image goes.

        They are looked for among all tags, not the filtered ones: no filter for versions loses signatures.
        """
        digests = {self._digest(reference) for reference in references}
        companions = (Tag(tag) for tag in tags if is_companion_tag(tag))
        return [tag for tag in companions if subject_of(tag) in digests]

    def _digest(self, reference: Reference) -> Digest | None:
        head = self.heads[reference]
        return None if isinstance(head, MirrorflowError) else head.digest


def _local_reference(target: Target, reference: Reference) -> str:
    return local_tag(target.rule, reference) if isinstance(reference, Tag) else reference
