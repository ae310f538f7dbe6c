"""Fetching again what was lost, from where it came: the upstream that the tag remembers."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from flows.entries import find_entry
from profiles.image_parts import ImageParts
from registry_server.oci.errors import MirrorflowError
from registry_server.store.maintenance.scrub import find_missing
from tasks.context.mirror_run import open_run
from tasks.copy_blob import copy_one, put_manifests
from tasks.manifests.manifest_tree import plan_image
from tasks.manifests.reading import fetch, parsed
from tasks.run.errors import WrongContent, is_stop
from tasks.run.values import BlobCopy, Image
from tasks.upstream.errors import Where

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable

    from profiles.model.profile import Profile
    from registry_server.oci.descriptor import Descriptor
    from registry_server.store.maintenance.scrub import MissingContent
    from registry_server.store.store import Store
    from tasks.context.mirror_run import MirrorRun


def refetch_damaged(
    store: Store, profile: Profile, *, stop: threading.Event, told: Callable[[str], None]
) -> list[str]:
    """Bring back what tags need and the store has lost; the digests that are here again.

    A manifest that came back may show what else is missing, so it looks until there is nothing new. What
    cannot be fetched is told, with the reason.
    """
    healed: list[str] = []
    tried: set[tuple[str, str]] = set()
    while not stop.is_set():
        lacks = [each for each in find_missing(store) if _key(each) not in tried]
        if not lacks:
            break
        tried.update(map(_key, lacks))
        healed += _refetch(store, profile, lacks, stop, told)
    return list(dict.fromkeys(healed))


def _key(lack: MissingContent) -> tuple[str, str]:
    return f"{lack.repository}:{lack.tag}", lack.descriptor.digest


def _refetch(
    store: Store,
    profile: Profile,
    lacks: Iterable[MissingContent],
    stop: threading.Event,
    told: Callable[[str], None],
) -> list[str]:
    by_entry: defaultdict[str, list[MissingContent]] = defaultdict(list)
    for lack in lacks:
        if lack.record.origin is None:
            told(f"{lack}, and its origin is not recorded: push it again")
        else:
            by_entry[lack.record.origin.registry].append(lack)
    healed: list[str] = []
    for name, of_entry in by_entry.items():
        try:
            with open_run(profile, find_entry(profile, name), store, stop=stop, only_store=True) as run:
                healed += [str(each.descriptor.digest) for each in of_entry if _refetch_one(run, each, told)]
        except MirrorflowError as error:
            told(f"{name}: {error}")
    return healed


def _refetch_one(run: MirrorRun, lack: MissingContent, told: Callable[[str], None]) -> bool:
    origin = lack.record.origin
    assert origin is not None, "those without were sorted out"
    image = Image(
        origin.repository,
        lack.repository,
        lack.tag,
        origin.digest,
        "" if origin.form else lack.record.media_type,
        ImageParts(origin.form.platforms, origin.form.attestations),
        form=origin.form,
    )
    try:
        if lack.is_manifest and image.form:
            _reconvert(run, image, lack.descriptor)
        elif lack.is_manifest:
            _fetch_manifest(run, image, lack.descriptor)
        else:
            copy_one(run, BlobCopy(lack.descriptor, image))
    except MirrorflowError as error:
        if is_stop(error):
            raise
        told(f"{lack}, and could not be fetched: {error}")
        return False
    told(f"{lack.repository}:{lack.tag}: {lack.descriptor.digest} was fetched again")
    return True


def _reconvert(run: MirrorRun, image: Image, descriptor: Descriptor) -> None:
    """The upstream never had what an image was converted to: it is converted once more."""
    repository = run.store.repository(image.local)
    put_manifests(run, image.local, plan_image(run, image).manifests)
    if not repository.has_blob(descriptor.digest):
        raise WrongContent(
            Where(run.upstream.name, image.source, image.digest),
            f"converting it again does not give {descriptor.digest}",
        )


def _fetch_manifest(run: MirrorRun, image: Image, descriptor: Descriptor) -> None:
    repository = run.store.repository(image.local)
    if repository.adopt_blob(descriptor.digest):
        return
    fetched = fetch(run, image, descriptor.digest)
    manifest = parsed(run, image, descriptor, fetched.body, fetched.media_type)
    repository.put_manifest(manifest, descriptor.digest)
