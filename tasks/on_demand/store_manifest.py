"""Keeping the manifest that a client waits for, in the form that its rule wants it in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry_server.oci.conversion import may_change
from registry_server.oci.manifest import parse_manifest
from tasks.manifests.manifest_tree import plan_image
from tasks.manifests.reading import held_body
from tasks.on_demand.resolve import NotTaken
from tasks.run.errors import BlobNotCopied, NoPlatform

if TYPE_CHECKING:
    from registry_server.oci.descriptor import Descriptor
    from tasks.context.mirror_run import MirrorRun
    from tasks.on_demand.content_index import ContentIndex
    from tasks.on_demand.resolve import Resolved


def put_in_form(run: MirrorRun, found: Resolved, families: ContentIndex) -> Descriptor:
    """Keep the manifest, and what is made of it; what the tag will name.

    The digest of a converted index is only known when its children are converted: then these come at once,
    their blobs do not. Raises `NotTaken`, and what `plan_image` raises.
    """
    image, manifest = found.image, found.manifest
    assert manifest is not None, "there is nothing to keep of what is here already"
    repository = run.store.repository(image.local)
    if not may_change(manifest, image.form):
        families.add(image.local, image.digest, manifest, found.candidate)
        return repository.put_manifest(manifest, image.digest)
    try:
        plan = plan_image(run, image)
    except NoPlatform as reason:
        raise NotTaken(f"{image.upstream_name} {reason}") from reason
    for descriptor in plan.manifests:
        body = held_body(repository, descriptor.digest)
        if body is None:
            raise BlobNotCopied(descriptor, None)
        child = parse_manifest(body, descriptor.media_type)
        repository.put_manifest(child, descriptor.digest)
        families.add(image.local, descriptor.digest, child, found.candidate)
    return plan.root
