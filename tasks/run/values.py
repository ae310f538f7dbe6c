"""The values that flow between the steps: frozen, picklable, without bodies, so that thousands fit in memory.

list_catalog -> Catalog -> filter_tags -> Findings -> verify_signature, convert_manifest -> Progress
             -> copy_blob: BlobCopy -> BlobOutcome -> publish_image -> Progress
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from profiles.image_parts import ALL_PARTS, ImageParts
from registry_server.oci.forms import KEPT, Form
from registry_server.oci.reference import ImageName, Tag
from tasks.run.dropped_tags import DroppedTags

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from profiles.model.content_rule import ContentRule
    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from registry_server.oci.errors import MirrorflowError
    from registry_server.oci.reference import RepositoryName
    from tasks.run.companion_values import CompanionSet, Followed, Following
    from tasks.upstream.many_heads import Head

NO_POLICY: Final = "no policy"
"""`Admission.verdict` of an image that no policy covers."""
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Target:
    """Where one content rule puts a repository."""

    rule: ContentRule
    local: RepositoryName


@dataclass(frozen=True, slots=True)
class SourceRepository:
    """A repository of the upstream and every place that the rules want it in."""

    name: str
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Catalog:
    """The wanted repositories; `problem` says why there may be more: the upstream refused its catalog, with
    `error`."""

    repositories: tuple[SourceRepository, ...]
    problem: str = ""
    error: MirrorflowError | None = None


@dataclass(frozen=True, slots=True)
class Admission:
    """A verdict that lets an image in: in a line, with what counted, and as it is kept beside the image.

    `judged_by` is the fingerprint of the policy, "" where none covers the image.
    """

    verdict: str
    signed_by: tuple[dict[str, Any], ...] = ()
    record: bytes | None = None
    judged_by: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """The image that a companion accompanies, and what it is called: its own rule decides about both."""

    digest: Digest
    media_type: str
    references: tuple[Tag | Digest, ...]


@dataclass(frozen=True, slots=True)
class Image:
    """One image that is to be brought in: the upstream's name for it, and ours.

    `digest` is the upstream's, resolved by one HEAD; from here on the image is only asked for by digest.
    `was`: what the tag named here before, where that is something else.
    `held`: the image itself is here, only companions are to follow. `following` None: none follow.
    `admission`: it was judged before its run began (on demand).
    `renamed_from`: the upstream's tag, where the rule gives it another name here.
    `kept`: names of destinations where somebody else has set the tag, which stays.
    `subject`: of a companion's tag, the image that it leads to in the end (an SBOM may be signed).
    `looked`: when the upstream was asked what the tag names, or earlier (unix seconds). What was set here
    since may be newer; inf: that is not asked.
    """

    source: str
    local: RepositoryName
    reference: Tag | Digest
    digest: Digest
    media_type: str
    parts: ImageParts = ALL_PARTS
    was: Digest | None = None
    form: Form = KEPT
    held: bool = False
    subject: Subject | None = field(default=None, compare=False)
    renamed_from: Tag | None = None
    following: Following | None = field(default=None, compare=False)
    admission: Admission | None = field(default=None, compare=False)
    kept: tuple[str, ...] = field(default=(), compare=False)
    looked: float = field(default=math.inf, compare=False)

    @property
    def name(self) -> ImageName:
        """What it is called here."""
        return ImageName(self.local, self.reference)

    @property
    def upstream_name(self) -> str:
        separator = ":" if isinstance(self.reference, Tag) else "@"
        return f"{self.source}{separator}{self.upstream_reference}"

    @property
    def upstream_reference(self) -> Tag | Digest:
        return self.renamed_from or self.reference


@dataclass(frozen=True, slots=True)
class ListedReferrers:
    """The companions' tags among all tags of a repository, and the digests of fallback lists seen there."""

    tags: frozenset[str]
    digests: Mapping[str, Digest] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Findings:
    """What filter_tags found out about one upstream repository.

    `upstream` has the digest of every tag that a rule keeps, for the poll record. `problems` holds the
    tags that could not be checked, and "" for the repository itself; `declined` those that are left out for
    good as long as their digest stays (schema 1, a `select` that gave false). `passing` are the errors of
    those problems that a retry of the task may mend; `heads` are the answers that the retry need not ask for
    again. `dropped` counts tags by the reason why a rule does not take them; `notes` are for users who come
    from zot. `companions` says why it is not known what refers to images that are here. `gone` are tags here
    that the upstream has no more; None: this search could not tell. `noted` is for the next poll, by
    repository here: what it need not look at again (`PollRecord.companions`). `lists` is what the tags say
    about referrers. `error`: the repository could not be searched.
    """

    source: SourceRepository
    changed: tuple[Image, ...] = ()
    unchanged: int = 0
    upstream: Mapping[ImageName, Digest] = field(default_factory=dict)
    problems: Mapping[ImageName, str] = field(default_factory=dict)
    declined: Mapping[ImageName, str] = field(default_factory=dict)
    dropped: DroppedTags = field(default_factory=DroppedTags)
    notes: tuple[str, ...] = ()
    companions: str = ""
    passing: Mapping[str, MirrorflowError] = field(default_factory=dict)
    renamed: Mapping[ImageName, str] = field(default_factory=dict)  # the upstream's tag, where it is another
    gone: frozenset[ImageName] | None = None
    heads: Mapping[Tag | Digest, Head] = field(default_factory=dict, repr=False)
    noted: Mapping[RepositoryName, Mapping[str, str]] = field(default_factory=dict)
    lists: ListedReferrers | None = field(default=None, repr=False)
    error: MirrorflowError | None = None

    @property
    def is_final(self) -> bool:
        """Whether searching again would change nothing."""
        return self.error is None and not self.passing

    def upstream_reference(self, name: ImageName) -> str:
        return self.renamed.get(name, str(name.reference))


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """What convert_manifest decided: manifests to store, children first, and the blobs they need.

    The bodies of the manifests are in the store's pool already, where nobody sees them. `sparse` are the
    entries of indexes that the rule leaves out (image-spec image-index.md allows their absence), `gone` those
    of them that the upstream does not have any more.
    Where the image takes another form here, `manifests` has the originals and then what was made of them, and
    `renamed` says what was made of which.
    """

    image: Image
    manifests: tuple[Descriptor, ...]
    blobs: tuple[Descriptor, ...]
    sparse: tuple[Digest, ...] = ()
    renamed: Mapping[Digest, Descriptor] = field(default_factory=dict)
    gone: tuple[Digest, ...] = ()

    company: CompanionSet | None = None

    @property
    def all_blobs(self) -> tuple[Descriptor, ...]:
        """Those of the image, and those of the companions that come with it."""
        more = self.company.blobs if self.company is not None else ()
        return tuple({blob.digest: blob for blob in (*self.blobs, *more)}.values())

    @property
    def root(self) -> Descriptor:
        """What the tag will name."""
        return self.manifests[-1]


class Step(StrEnum):
    """How far an image got."""

    FOUND = "found"
    VERIFIED = "verify_signature"
    CONVERTED = "convert_manifest"
    COPIED = "copy_blob"
    PUBLISHED = "publish_image"


_BEFORE = {Step.VERIFIED: Step.FOUND, Step.CONVERTED: Step.VERIFIED, Step.PUBLISHED: Step.CONVERTED}


@dataclass(frozen=True, slots=True)
class BlobCopy:
    """A blob that the store lacks, and the image on whose behalf it is fetched."""

    blob: Descriptor
    image: Image

    @property
    def key(self) -> tuple[Digest, str]:
        """The digest, and the upstream repository that is asked for it: another one may have it."""
        return self.blob.digest, self.image.source


@dataclass(frozen=True, slots=True)
class BlobOutcome:
    """What came of a `BlobCopy`; `moved` bytes came over the network."""

    copy: BlobCopy
    moved: int = 0
    error: MirrorflowError | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one image got. `error` is of `failed_step`; `skipped` is a reason to leave the image out for
    good, which is not a failure.

    `admission` is what verification said of it. `lacking` are the blobs of its plan that the store does not
    have. `companions` is what came of each. `noted` is for the next poll, as in `Findings`. `moved` counts
    bytes that publish_image fetched. `seconds` is the time that the steps took.
    """

    image: Image
    step: Step = Step.FOUND
    failed_step: Step | None = None
    error: MirrorflowError | None = None
    skipped: str = ""
    admission: Admission = field(default_factory=lambda: Admission(""))
    plan: ImagePlan | None = None
    lacking: tuple[BlobCopy, ...] = ()
    companions: Mapping[str, Followed] = field(default_factory=dict)
    noted: Mapping[str, str] = field(default_factory=dict)
    moved: int = 0
    seconds: float = 0.0

    def waits_for(self, step: Step) -> bool:
        """Whether it passed the step before, and neither passed this one nor was left out."""
        return self.step is _BEFORE[step] and not self.skipped

    def passed(self, step: Step) -> Progress:
        return replace(self, step=step, failed_step=None, error=None)

    def failed(self, step: Step, error: MirrorflowError) -> Progress:
        return replace(self, failed_step=step, error=error)

    def followed(self, found: Iterable[Followed]) -> Progress:
        """With what came of companions; a later word on one of them replaces the first."""
        return replace(self, companions={**self.companions, **{each.companion: each for each in found}})


@dataclass(frozen=True, slots=True)
class Page:
    """Images that go through the steps together; `lists` by upstream repository, for `ReferrerLists`."""

    images: tuple[Progress, ...]
    lists: Mapping[str, ListedReferrers] = field(default_factory=dict)


class Output(Generic[V]):
    """Picklable. Not a dataclass, because Prefect searches those for futures, and draws arrows between the
    tasks that it finds equal strings in.

    Partial failure is a value too: `value` has the members that passed and those that failed, `error` says
    what failed. `summary` is one line for the UI. `remarks` and `requests` are those since the last output of
    this process; `budget` is the upstream's rate limit in words.
    """

    __slots__ = ("budget", "error", "remarks", "requests", "summary", "value")

    def __init__(
        self,
        value: V,
        *,
        error: MirrorflowError | None = None,
        summary: str = "",
    ) -> None:
        self.value, self.error, self.summary = value, error, summary
        self.remarks: tuple[str, ...] = ()
        self.requests: Mapping[str, int] = {}
        self.budget = ""

    def __repr__(self) -> str:
        return "<Output>"  # Prefect logs it beside the message of the state

    def __getstate__(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        for name, value in zip(self.__slots__, state, strict=True):
            setattr(self, name, value)
