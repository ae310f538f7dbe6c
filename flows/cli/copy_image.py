"""`copy`: one image from one registry to another, by the steps of a sync, without a store of its own."""

from __future__ import annotations

import json
import re
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flows.entries import open_store
from profiles.imports.image_reference import ImageReference, destination_keys, has_login
from profiles.loader import parse_profile
from registry_server.human_units import human_bytes
from registry_server.oci.errors import InvalidName
from tasks.context.mirror_run import open_run
from tasks.engines.dag import Dag
from tasks.engines.direct_engine import direct_engine
from tasks.engines.steps import run_step
from tasks.results.outcomes import Outcome
from tasks.results.report import build_report
from tasks.run.errors import NotWanted
from tasks.run.record import RunRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from profiles.model.destination import DestinationEntry
    from profiles.model.profile import Profile
    from profiles.model.registry_entry import RegistryEntry
    from profiles.values.upstream_url import UpstreamUrl
    from tasks.results.report import Report

_NAME: Final = "copy"
# Of a registry entry that has the host of the source, and of a destination that has the target's.
_LOGIN: Final = {"tls_verify", "cert_dir", "token_services", "req_concurrent", "req_per_sec"}
# Reasons name keys of a profile; here options and arguments stand for them.
_WITHOUT_PROFILE: Final = {
    "it is overwritten with `force: true` only": "--force overwrites it",
    f"in destination {_NAME}, where": "there, where",
    "write http:// in `urls`": "write http:// before the image",
    "check its spelling in `urls`": "check its spelling",
    "add them for this host to credentialsFile": "log in to this host with docker or podman",
}


@dataclass(frozen=True, slots=True)
class ImagePlace:
    """An image of a registry. `reference` is a tag, a digest, or ""."""

    scheme: str
    registry: str
    repository: str
    reference: str

    @classmethod
    def parse(cls, text: str) -> ImagePlace:
        """`registry.example:5000/team/app:1`; https, unless `http://` is before it. Raises `InvalidName`."""
        scheme, found, rest = text.partition("://")
        scheme, rest = (scheme, rest) if found else ("https", text)
        if has_login(rest):
            raise InvalidName(
                "the image holds a login; leave it out, and log in with docker or podman instead"
            )
        image = ImageReference.parse(rest)
        if image is None or not image.repository or scheme not in ("http", "https"):
            raise InvalidName(f"{text[:200]!r} is no image; write e.g. 'registry.example/team/app:1.0'")
        return cls(scheme, image.registry, image.repository, image.reference)

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.registry}"


def copy_image(
    source: str, target: str, base: Profile | None, *, force: bool = False, platforms: Sequence[str] = ()
) -> Report:
    """Copy one image, with what accompanies it.

    `base` is a profile whose logins, policies and settings of the two hosts are taken. Raises
    `InvalidName`, `ProfileInvalid`, `NotWanted`, and what opening a run raises.
    """
    from_, into = ImagePlace.parse(source), ImagePlace.parse(target)
    if not from_.reference:
        raise InvalidName(f"{source!r} has neither tag nor digest; write e.g. '{source}:latest'")
    if ":" in from_.reference and into.reference not in ("", from_.reference):
        raise InvalidName(
            f"{target!r} gives a tag to an image that is named by its digest; copy it by a tag, or leave the "
            "tag out"
        )
    with tempfile.TemporaryDirectory(prefix="mirrorflow-copy-") as folder:
        profile = _profile(Path(folder), from_, into, base, force=force, platforms=platforms)
        store, record, started = open_store(profile), RunRecord(), time.time()
        with (
            open_run(profile, profile.sync.registries[0], store) as run,
            direct_engine(run, partial(run_step, run)) as engine,
        ):
            failure = Dag(run, engine, record).mirror()
            record.remarks.update(dict.fromkeys(run.live.take_remarks()))
            report = build_report(run, record, started=started, run_id="", failure=failure)
    if not report.images and not report.problems:
        raise NotWanted(f"{source}: there is no such image")
    return report


def is_copied(report: Report) -> bool:
    """Whether the image and all that comes with it is there."""
    return report.complete and all(image.outcome is Outcome.COPIED for image in report.images)


def lines_of(report: Report, target: str) -> Iterator[str]:
    """What came of it, and why where it did not."""
    for image in report.images:
        if image.outcome is Outcome.COPIED:
            yield f"{target}: {image.stored or image.digest}, {human_bytes(image.bytes_moved)} moved"
        else:
            yield f"{image.upstream}: {image.outcome}: {_in_options(image.reason)}"
        for companion in image.companions:
            said = (str(companion[key]) for key in ("companion", "outcome", "reason"))
            yield f"  {' '.join(filter(None, said))}"
    yield from map(_in_options, report.problems)
    yield from map(_in_options, report.notes)


def _in_options(reason: str) -> str:
    for key, option in _WITHOUT_PROFILE.items():
        reason = reason.replace(key, option)
    return reason


def _profile(
    folder: Path,
    from_: ImagePlace,
    into: ImagePlace,
    base: Profile | None,
    *,
    force: bool,
    platforms: Sequence[str],
) -> Profile:
    """One registry entry, one destination, and a storage root that is thrown away."""
    rule = _rule(from_, into) | ({"platforms": {"only": [*platforms], "rewrite": True}} if platforms else {})
    document = {
        "storage": {"rootDirectory": str(folder / "state")},
        "destinations": [{"name": _NAME, "url": into.url, "force": force}],
        "sync": {"registries": [{"name": _NAME, "urls": [from_.url], "to": [_NAME], "content": [rule]}]},
    }
    made = parse_profile(json.dumps(document), folder / "copy.json").profile
    if base is None:
        return made
    [entry], [destination] = made.sync.registries, made.destinations
    entry = entry.model_copy(update=_settings(base.sync.registries, entry.urls[0]))
    destination = destination.model_copy(update=_settings(base.destinations, destination.url))
    sync = base.sync.model_copy(update={"registries": (entry,)})
    return base.model_copy(update={"storage": made.storage, "sync": sync, "destinations": (destination,)})


def _settings(sections: Sequence[RegistryEntry | DestinationEntry], url: UpstreamUrl) -> dict[str, Any]:
    """How the profile reaches this host; nothing where it does not name it."""
    for section in sections:
        if any(each.host == url.host for each in section.urls):
            return {key: getattr(section, key) for key in _LOGIN}
    return {}


def _rule(from_: ImagePlace, into: ImagePlace) -> dict[str, Any]:
    keys = destination_keys(from_.repository, into.repository)
    if ":" in from_.reference:
        return keys | {"images": [f"{from_.repository}@{from_.reference}"]}
    tags: dict[str, Any] = {"regex": re.escape(from_.reference)}
    if into.reference and into.reference != from_.reference:
        tags["rename"] = {"regex": "(.*)", "to": into.reference}
    return keys | {"tags": tags}
