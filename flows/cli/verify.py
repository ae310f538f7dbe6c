"""`verify`: the verdict on one image, with everything that was looked at on the way."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.cli.explain import without_host
from registry_server.oci.digest import Digest
from registry_server.oci.reference import ImageName, RepositoryName
from registry_server.store.store import Store
from tasks.context.mirror_run import open_run
from tasks.list_catalog import choose_repositories, names_behind
from tasks.run.errors import NotWanted
from tasks.run.values import NO_POLICY, Image
from tasks.verify_signature import judge_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from profiles.model.profile import Profile
    from tasks.context.mirror_run import MirrorRun
    from tasks.run.values import SourceRepository
    from tasks.trust.verdict import FoundSignature, Verdict


@dataclass(frozen=True, slots=True)
class ImageVerdict:
    """`verdict` is None for an image that no policy covers."""

    registry: str
    image: str
    digest: str
    verdict: Verdict | None

    @property
    def admits(self) -> bool:
        return self.verdict is None or self.verdict.admits

    def to_json(self) -> dict[str, Any]:
        verdict = self.verdict.to_json() if self.verdict else {"outcome": NO_POLICY, "admits": True}
        return {"registry": self.registry, "image": self.image, "digest": self.digest, **verdict}


def verify_image(profile: Profile, image: str) -> ImageVerdict:
    """Judge the first entry's image of that name. Raises `NotWanted`, `UpstreamError`, `TrustBroken`."""
    wanted = ImageName.parse(without_host(profile, image), default_tag="latest")
    with tempfile.TemporaryDirectory(prefix="mirrorflow-verify-") as folder:
        store = Store.open(Path(folder), durability="none")
        for entry in profile.sync.registries:
            sources = choose_repositories(entry, names_behind(entry, [str(wanted.repository)]))
            if sources:
                with open_run(profile, entry, store, only_store=True) as run:
                    return _judge(run, sources[0], wanted)
    raise NotWanted(f"no content rule takes {wanted.repository}; see `mirrorflow explain`")


def _judge(run: MirrorRun, source: SourceRepository, wanted: ImageName) -> ImageVerdict:
    head = run.upstream.head(source.name, wanted.reference)
    image = Image(source.name, RepositoryName(source.name), wanted.reference, head.digest, head.media_type)
    tag = None if isinstance(wanted.reference, Digest) else wanted.reference
    verdict = judge_digest(run, image, head.digest, tag, thorough=True)
    return ImageVerdict(run.entry.name, image.upstream_name, head.digest, verdict)


def render_verdict(judged: ImageVerdict) -> Iterator[str]:
    """The outcome, then a line for each signature that was found."""
    verdict = judged.verdict
    yield f"{judged.registry}: {judged.image} ({judged.digest})"
    yield f"  {verdict.summary if verdict else NO_POLICY}"
    for found, count in _alike(verdict.signatures if verdict else ()):
        state = f"counts for {', '.join(found.authorities)}" if found.counted else "does not count"
        who = f" by {found.who}" if found.who else ""
        others = f" and {count - 1:,} more like it" if count > 1 else ""
        yield f"  {found.format} in {found.where}{others}{who}: {state}"
        for reason in (*found.reasons, *found.notes):
            yield f"    {reason}"


def _alike(signatures: Iterable[FoundSignature]) -> Iterator[tuple[FoundSignature, int]]:
    """Those that count, and of those that do not one for each reason, with how many there are."""
    kinds: dict[object, list[FoundSignature]] = {}
    for number, found in enumerate(signatures):
        kinds.setdefault(number if found.counted else (found.format, found.reasons), []).append(found)
    return ((alike[0], len(alike)) for alike in kinds.values())
