"""In filter_tags: which images have companions that are not here, at one request for each digest at most."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from profiles.matching import referrers_of
from registry_server.counted import counted
from registry_server.oci.companion_tags import is_companion_tag
from registry_server.oci.errors import MirrorflowError
from registry_server.oci.reference import Tag
from tasks.companions.missing import lacks_companions
from tasks.run.companion_values import Following
from tasks.run.errors import is_retryable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from profiles.model.content_rule import ContentRule
    from registry_server.oci.digest import Digest
    from registry_server.oci.reference import RepositoryName
    from tasks.context.mirror_run import MirrorRun
    from tasks.run.values import Image

    _Failure = tuple[str, MirrorflowError | None]


def following(
    run: MirrorRun, reference: Tag | Digest, rules: Sequence[ContentRule | None]
) -> Following | None:
    """What is to follow an image that these rules take; None: nothing.

    cosign's tags are companions themselves, and are seen in the list of tags.
    """
    if isinstance(reference, Tag) and is_companion_tag(reference):
        return None
    found = (referrers_of(run.entry, rule) for rule in rules)
    wishes = tuple(wish for wish in found if wish.follow)
    if not wishes:
        return None
    return Following(wishes, deep=bool(run.only) or any(wish.nested for wish in wishes))


@dataclass(slots=True)
class CompanionChanges:
    """`lacking`: images that are here and lack companions. `noted`: as in `Findings`.

    `problem`: why some companions could not be asked for, `passing` the first error of it that a retry may
    mend.
    """

    lacking: list[Image] = field(default_factory=list)
    noted: defaultdict[RepositoryName, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    problem: str = ""
    passing: MirrorflowError | None = None


def find_companions(run: MirrorRun, held: Iterable[Image]) -> CompanionChanges:
    """Which of the images that are here lack companions. Raises `Stopped`."""
    by_digest: defaultdict[Digest, list[Image]] = defaultdict(list)
    for image in held:
        by_digest[image.digest].append(image)
    answers = run.each(lambda images: _lacking(run, images), by_digest.values())
    run.check_stopped()
    found = CompanionChanges()
    failures: list[_Failure] = []
    for _, answer in answers:
        if isinstance(answer, MirrorflowError):
            failures.append((str(answer), answer))
        else:
            changes, unknown = answer
            found.lacking += changes.lacking
            failures += unknown
            for local, notes in changes.noted.items():
                found.noted[local].update(notes)
    if failures:
        found.problem = (
            f"what refers to {counted(len(failures), 'image')} of it could not be found out: {failures[0][0]}"
        )
        passing = (error for _, error in failures if error is not None and is_retryable(error))
        found.passing = next(passing, None)
    return found


def _lacking(run: MirrorRun, images: Iterable[Image]) -> tuple[CompanionChanges, list[_Failure]]:
    """For images with one digest; and why it could not be found out."""
    found = CompanionChanges()
    failures: list[_Failure] = []
    for image in images:
        assert image.following is not None
        lacks, company = lacks_companions(run, image, image.following)
        if lacks:
            found.lacking.append(image)
        elif company.failures:
            failures.append((company.failures[0].reason, company.failures[0].error))
        else:
            found.noted[image.local].update(company.versions)
    return found, failures
