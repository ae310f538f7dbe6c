"""Runs over real upstreams, whole or step by step, without Prefect; and ways to look at what they left."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from flows.entries import open_store
from profiles.loader import parse_profile
from registry_server.oci import media_types
from registry_server.oci.errors import MirrorflowError
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.store import Store
from tasks.context.mirror_run import open_run
from tasks.engines.dag import Dag
from tasks.engines.direct_engine import direct_engine
from tasks.engines.steps import run_step
from tasks.list_catalog import wanted_repositories
from tasks.pipeline import Batch
from tasks.results.poll_records import record_polls
from tasks.results.report import build_report
from tasks.run.record import RunRecord
from tasks.stored.pruning import prune
from tests.support.stored_files import file_of

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from profiles.values.shard import Shard
    from registry_server.oci.descriptor import Descriptor
    from tasks.context.mirror_run import MirrorRun
    from tasks.results.outcomes import ImageOutcome
    from tasks.results.report import Report
    from tests.support_misbehaving import Misbehaving

EVERYTHING: dict[str, Any] = {"prefix": "**"}


@contextmanager
def opened(
    folder: Path,
    url: str,
    *content: dict[str, Any],
    only: Iterable[str] = (),
    stop: threading.Event | None = None,
    storage: dict[str, Any] | None = None,
    more: dict[str, Any] | None = None,
    shard: Shard | None = None,
    **entry: Any,
) -> Iterator[MirrorRun]:
    """A run over the registry at `url` into `folder`/store; `entry` are keys of the registry entry.

    Without rules it takes everything. `more` are further sections of the profile.
    """
    registry = {"name": "registry1", "urls": [url], "content": content or [EVERYTHING], **entry}
    document = {
        "storage": {"rootDirectory": "store", **(storage or {})},
        "sync": {"registries": [registry]},
        **(more or {}),
    }
    path = folder / "profile.json"
    profile = parse_profile(json.dumps(document), path).profile
    store = open_store(profile)
    with open_run(profile, profile.sync.registries[0], store, only=only, stop=stop, shard=shard) as run:
        yield run


def searched(run: MirrorRun) -> Batch:
    """After list_catalog and filter_tags, whatever failed."""
    batch = Batch(run)
    with suppress(MirrorflowError):  # it is in the record as well
        batch.filter_tags(wanted_repositories(run).repositories)
    return batch


def mirror(run: MirrorRun) -> Report:
    """A whole run, and its report."""
    record, started = RunRecord(), time.time()
    with direct_engine(run, partial(run_step, run)) as engine:
        failure = Dag(run, engine, record).mirror()
    record_polls(run, record)
    if not failure:
        prune(run, record.polled())
    return reported(run, record, started=started, failure=failure)


def reported(run: MirrorRun, record: RunRecord, *, started: float = 0.0, failure: str = "") -> Report:
    """The report of what is in the record."""
    record.remarks.update(dict.fromkeys(run.live.take_remarks()))
    record.requests.update(run.take_requests())
    return build_report(run, record, started=started, run_id="", failure=failure)


def sync(folder: Path, upstream: Misbehaving, *content: dict[str, Any], **options: Any) -> Report:
    """Open a run, do all of it, close it."""
    with opened(folder, f"http://{upstream.host}", *content, **options) as run:
        return mirror(run)


def rows(report: Report) -> dict[str, ImageOutcome]:
    return {image.image: image for image in report.images}


def visible(store: Store) -> list[str]:
    """Every tag that a client can see."""
    repositories = [store.repository(name) for name in store.repositories()]
    return [f"{each.name}:{tag}" for each in repositories for tag in each.tags()]


def assert_complete(store: Store, name: str) -> None:
    """Invariant 1: every byte below a visible tag is here, and is what it says."""
    repository_name, _, tag = name.rpartition(":")
    repository = store.repository(RepositoryName(repository_name))
    record = repository.tag(Tag(tag))
    assert record is not None
    pending = [record.descriptor]
    while pending:
        descriptor = pending.pop()
        if descriptor.digest in record.sparse:
            continue
        content = file_of(repository, descriptor.digest).read_bytes()
        assert type(descriptor.digest).of(content, descriptor.digest.algorithm) == descriptor.digest
        pending += _below(content, descriptor.media_type)


def _below(content: bytes, media_type: str) -> list[Descriptor]:
    if media_type not in media_types.MANIFESTS:
        return []
    manifest = parse_manifest(content, media_type, same_kind=True)
    return [*manifest.blobs, *manifest.manifests]


def add_document(
    upstream: Misbehaving, repository: str, tag: str, media_type: str, **fields: Any
) -> Descriptor:
    """A manifest or index from its JSON."""
    document = {"schemaVersion": 2, "mediaType": media_type, **fields}
    return upstream.add_manifest(repository, tag, json.dumps(document).encode(), media_type)


def add_index(
    upstream: Misbehaving, repository: str, tag: str, *children: Descriptor, **fields: Any
) -> Descriptor:
    entries = [child.to_json() for child in children]
    return add_document(upstream, repository, tag, media_types.OCI_INDEX, manifests=entries, **fields)


def asked(upstream: Misbehaving) -> Counter[str]:
    """What was asked since the last call: "HEAD manifests" -> 3. The catalog's pages are not counted."""
    found = [re.search(r"/(tags|manifests|blobs)/", each.path) for each in upstream.seen]
    kinds = Counter(
        f"{each.method} {match[1]}" for each, match in zip(upstream.seen, found, strict=True) if match
    )
    upstream.seen.clear()
    return kinds


def store_of(folder: Path) -> Store:
    return Store.open(folder / "store")


def made_ready(run: MirrorRun) -> Batch:
    """Searched, verified and converted: what copy_blob and publish_image begin with."""
    batch = searched(run)
    batch.verify_signature()
    batch.convert_manifest()
    return batch


def blob_path(repository: str, blob: Descriptor) -> str:
    return f"/v2/{repository}/blobs/{blob.digest}"
