"""The tree of manifests as it will be stored, and the blobs that it needs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from profiles.matching import has_min_age, source_name
from registry_server.oci.companion_tags import is_companion_tag
from registry_server.oci.reference import Tag
from tasks.companions.fetching import with_companions
from tasks.copy_blob import lacking_blobs
from tasks.filter_tags.changes import ask_again
from tasks.list_catalog import choose_repositories
from tasks.manifests.manifest_tree import plan_image
from tasks.manifests.reading import fetch_by_tag
from tasks.manifests.schema1 import schema1_reason
from tasks.run.errors import LeftOut, TagMoved
from tasks.run.values import ImagePlan
from tasks.upstream.errors import UpstreamSchema1
from tasks.verify_signature import verify_image

if TYPE_CHECKING:
    from tasks.context.mirror_run import MirrorRun
    from tasks.run.values import Image, Progress


def convert(run: MirrorRun, progress: Progress) -> Progress:
    """Keep bytes and digests: of indexes (whole, sparse, nested), artifacts, Docker's media types.

    Raises `LeftOut` for what is in a format, or for platforms, that are not mirrored.
    """
    try:
        return _convert(run, progress)
    except TagMoved:
        return _convert_moved(run, progress)
    except UpstreamSchema1 as error:
        raise LeftOut(schema1_reason(progress.image, error)) from error


def _convert_moved(run: MirrorRun, progress: Progress) -> Progress:
    """A tag that moved since it was looked at is looked at once more.

    Where it moves again, and its name alone decides that it is taken, it is what one GET of the tag answers.
    """
    image = ask_again(run, progress.image)
    if image is None:
        return _convert(run, progress)
    progress = replace(progress, image=image, admission=verify_image(run, image))
    try:
        return _convert(run, progress)
    except TagMoved:
        if not _is_chosen_by_name(run, image):
            raise
        return _convert(run, replace(progress, image=fetch_by_tag(run, image)))


def _is_chosen_by_name(run: MirrorRun, image: Image) -> bool:
    """Whether no policy, no time of waiting and no `select` asks what the image holds."""
    tag = image.upstream_reference if isinstance(image.upstream_reference, Tag) else None
    if tag is None or is_companion_tag(tag) or has_min_age(run.entry):
        return False
    if run.verification.policy_for(source_name(run.entry, image.source), tag) is not None:
        return False
    sources = choose_repositories(run.entry, [image.source])
    return not any(target.rule.select for source in sources for target in source.targets)


def _convert(run: MirrorRun, progress: Progress) -> Progress:
    image = progress.image
    plan = ImagePlan(image, (), ()) if image.held else plan_image(run, image)
    plan = with_companions(run, image, plan)
    return replace(progress, plan=plan, lacking=lacking_blobs(run, plan))
