"""Signed Docker images that are converted: judged as upstream has them, verified again by that digest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from registry_server.oci import media_types
from registry_server.oci.reference import Tag
from tasks.on_demand.answers import Miss, Refusal, TheManifest
from tasks.trust.judging import judge
from tasks.trust.sources import StoreSource
from tests.on_demand.mirrors import document, minding
from tests.tasks.convert_manifest.docker_images import add_docker_image
from tests.tasks.runs import mirror, opened, rows, store_of, visible
from tests.tasks.test_verifying import APP, OURS, THEIRS, policy, sign

if TYPE_CHECKING:
    from pathlib import Path

    from registry_server.oci.digest import Digest
    from tests.support_misbehaving import Misbehaving

RULE: dict[str, Any] = {"prefix": "app", "convert": "oci"}


def fill(upstream: Misbehaving) -> dict[str, Digest]:
    """One image each that is signed by us, by somebody else, and by nobody."""
    tags = ("signed", "stranger", "unsigned")
    made = {tag: add_docker_image(upstream, "app", tag, architecture=tag).digest for tag in tags}
    sign(upstream, made["signed"], OURS)
    sign(upstream, made["stranger"], THEIRS)
    return made


def test_a_poll_admits_what_is_signed_and_its_signature_holds_for_the_original(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    made = fill(upstream)
    with opened(tmp_path, f"http://{upstream.host}", RULE, more=policy(upstream)) as run:
        report = mirror(run)
        rule = run.verification.policy_for(f"{upstream.host}/app", "signed")
    assert visible(store_of(tmp_path)) == [f"app:sha256-{made['signed'].hex}.sig", "app:signed"]
    assert rows(report)["app:signed"].verdict.startswith("verified: ")
    repository = store_of(tmp_path).repository(APP)
    record = repository.tag(Tag("signed"))
    assert record is not None
    assert record.converted_from == made["signed"]
    assert not any(repository.has_blob(made[tag]) for tag in ("stranger", "unsigned"))
    # From what is here alone.
    assert rule is not None
    source = StoreSource(repository)
    assert judge(made["signed"], media_types.DOCKER_MANIFEST, source, rule).admits
    assert not judge(record.digest, record.media_type, source, rule).admits


def test_on_demand_too_the_verdict_is_on_what_upstream_has(upstream: Misbehaving, tmp_path: Path) -> None:
    made = fill(upstream)
    entry = document(f"http://{upstream.host}", content=[RULE])
    with minding(tmp_path, entry, more=policy(upstream)) as (_, service, store, work):
        answers = {tag: service.answer(Miss("manifest", APP, Tag(tag)), 20) for tag in made}
        work.wait()
        refused = [tag for tag, each in answers.items() if isinstance(each, Refusal) and each.status == 403]
        assert refused == ["stranger", "unsigned"]
        admitted = answers["signed"]
        assert isinstance(admitted, TheManifest)
        found = store.repository(APP).find_manifest(admitted.digest)
        assert found.descriptor.media_type == media_types.OCI_MANIFEST
        signature = f"sha256-{made['signed'].hex}.sig"  # of what upstream has: it follows the image
        assert store.repository(APP).tags() == [signature, "signed"]
