"""Whoever may push to the upstream, but has no signing key, gets nothing runnable into the mirror."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import pytest

from registry_server.http.server_process import running_server
from registry_server.oci.digest import Digest
from registry_server.oci.media_types import DOCKER_CONFIG, OCI_CONFIG, OCI_EMPTY, OCI_INDEX, OCI_MANIFEST
from tasks.manifests.verdict_record import ARTIFACT_TYPE
from tests.on_demand.mirrors import document, mirroring
from tests.tasks.companies import APP
from tests.tasks.runs import mirror, opened, store_of
from tests.tasks.trust.attacker import (
    BUNDLE,
    DSSE,
    NOTATION,
    PAYLOAD,
    ROOTFS,
    SPDX,
    TAR,
    ZIPPED,
    Attack,
    attacked,
    config_of,
    entry,
    manifest_of,
    plain,
    policy,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# A disguise: what the attacker pushes. The first word says which way around the verdict it takes.


def lead_by_layer(at: Attack) -> None:
    """A referrer whose layer names an unsigned image."""
    _, body = at.image()
    layer = entry(OCI_MANIFEST, body)
    at.attach(manifest_of(OCI_EMPTY, b"{}", artifactType=SPDX, layers=[layer]))


def lead_by_layer_of_an_allowed_type(at: Attack) -> None:
    """The manifest of an unsigned image as the text of an SBOM: a document, and never a manifest."""
    _, body = at.image()
    sbom, blobs = manifest_of(OCI_EMPTY, b"{}", (SPDX, body), artifactType=SPDX)
    at.upstream.keep(json.dumps(json.loads(sbom) | {"subject": plain(at.signed)}).encode(), blobs)
    at.documents |= {Digest.of(body)}


def lead_by_config(at: Attack) -> None:
    _, body = at.image()
    at.attach(manifest_of(OCI_MANIFEST, body, (SPDX, b"{}"), artifactType=SPDX))


def lead_by_sbom_tag(at: Attack) -> None:
    _, body = at.image()
    at.push(manifest_of(OCI_CONFIG, config_of(), (OCI_MANIFEST, body)), f"{at.stem}.sbom")


def lead_by_subject(at: Attack) -> None:
    """A referrer of the unsigned image that is listed for the signed one."""
    image, _ = at.image()
    at.attach(manifest_of(OCI_EMPTY, b"{}", (SPDX, b"{}"), artifactType=SPDX), image)


def lead_by_index(at: Attack) -> None:
    image, _ = at.image()
    body = {"schemaVersion": 2, "mediaType": OCI_INDEX, "artifactType": SPDX, "manifests": [plain(image)]}
    at.attach((json.dumps(body).encode(), []))


def lead_by_unsigned_index(at: Attack) -> None:
    image, _ = at.image()
    body = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [plain(image)]}
    at.push((json.dumps(body).encode(), []), "v2")


def companion_that_extends_a_tar_layer(at: Attack) -> None:
    """containerd unpacks it: the base type and the last suffix are a layer's."""
    at.wanted |= {Digest.of(ZIPPED)}
    at.attach(manifest_of(OCI_CONFIG, config_of(ROOTFS), (f"{TAR}+dsse+gzip", ZIPPED), artifactType=DSSE))


def companion_with_a_plain_layer(at: Attack) -> None:
    at.wanted |= {Digest.of(ZIPPED)}
    at.attach(manifest_of(OCI_CONFIG, config_of(ROOTFS), (f"{TAR}+gzip", ZIPPED), artifactType=BUNDLE))


def companion_of_dsse_type_with_a_tar_in_it(at: Attack) -> None:
    """podman unpacks a layer by its content."""
    at.wanted |= {Digest.of(ROOTFS)}
    at.attach(manifest_of(OCI_CONFIG, config_of(ROOTFS), (DSSE, ROOTFS)))


def companion_with_a_zipped_payload(at: Attack) -> None:
    at.wanted |= {Digest.of(ZIPPED)}
    at.attach(manifest_of(DOCKER_CONFIG, config_of(ROOTFS), (PAYLOAD, ZIPPED)))


def companion_with_an_entrypoint(at: Attack) -> None:
    config = config_of(b"{}", config={"Entrypoint": ["/bin/run"]})
    at.attach(manifest_of(OCI_CONFIG, config, (PAYLOAD, b"{}")))


def companion_with_a_config_under_another_type(at: Attack) -> None:
    """containerd reads `rootfs` in a config of any type."""
    at.wanted |= {Digest.of(ROOTFS)}
    made = manifest_of(NOTATION, config_of(ROOTFS), ("application/jose+json", ROOTFS))
    at.attach(made)


def companion_with_cose_that_is_a_tar(at: Attack) -> None:
    at.wanted |= {Digest.of(ROOTFS)}
    at.attach(manifest_of(NOTATION, b"{}", ("application/cose", ROOTFS)))


def companion_with_layers_elsewhere(at: Attack) -> None:
    """containerd fetches a layer from the `urls` of its descriptor."""
    layer = entry(f"{TAR}+gzip", ZIPPED, urls=["http://evil.example/layer"]) | {
        "digest": "sha384:" + "0" * 96
    }
    body, blobs = manifest_of(OCI_CONFIG, config_of(b"{}"), (PAYLOAD, b"{}"))
    layers = [*json.loads(body)["layers"], layer]
    at.attach((json.dumps(json.loads(body) | {"layers": layers}).encode(), blobs))


def companion_that_is_an_image(at: Attack) -> None:
    """A whole image with a `subject`."""
    at.wanted |= {Digest.of(ZIPPED)}
    at.attach(manifest_of(OCI_CONFIG, config_of(ROOTFS), (f"{TAR}+gzip", ZIPPED)))


def companion_of_a_companion(at: Attack) -> None:
    sbom = at.upstream.keep(
        *manifest_of(
            OCI_EMPTY, b"{}", (SPDX, b'{"spdxVersion": 1}'), artifactType=SPDX, subject=plain(at.signed)
        )
    )
    at.wanted |= {Digest.of(ZIPPED)}
    at.attach(manifest_of(OCI_CONFIG, config_of(ROOTFS), (f"{TAR}+gzip", ZIPPED), artifactType=SPDX), sbom)


def companion_tag_with_an_image(at: Attack) -> None:
    at.wanted |= {Digest.of(ZIPPED)}
    for suffix in ("att", "sbom"):
        config = config_of(ROOTFS, author=suffix)
        at.push(manifest_of(OCI_CONFIG, config, (f"{TAR}+gzip", ZIPPED)), f"{at.stem}.{suffix}")


def companion_tag_with_a_disguised_layer(at: Attack) -> None:
    at.wanted |= {Digest.of(ROOTFS)}
    at.push(manifest_of(OCI_CONFIG, config_of(ROOTFS), (DSSE, ROOTFS)), f"{at.stem}.att")
    at.push(manifest_of(OCI_CONFIG, config_of(ROOTFS), (SPDX, ROOTFS)), f"{at.stem}.sbom")


def companion_tag_with_an_index(at: Attack) -> None:
    image, _ = at.image()
    body = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [plain(image)]}
    at.push((json.dumps(body).encode(), []), f"{at.stem}.sbom")


def companion_that_is_a_verdict(at: Attack) -> None:
    """A record that only this mirror writes."""
    verdict = json.dumps({"version": 1, "outcome": "verified", "subject": at.signed.digest}).encode()
    at.attach(manifest_of(OCI_EMPTY, b"{}", (ARTIFACT_TYPE, verdict), artifactType=ARTIFACT_TYPE))


def unsigned_tag(at: Attack) -> None:
    at.wanted |= {Digest.of(ZIPPED)}
    at.push(manifest_of(OCI_CONFIG, config_of(ROOTFS), (f"{TAR}+gzip", ZIPPED)), "v2")


DISGUISES: tuple[Callable[[Attack], None], ...] = (
    lead_by_layer,
    lead_by_layer_of_an_allowed_type,
    lead_by_config,
    lead_by_sbom_tag,
    lead_by_subject,
    lead_by_index,
    lead_by_unsigned_index,
    companion_that_extends_a_tar_layer,
    companion_with_a_plain_layer,
    companion_of_dsse_type_with_a_tar_in_it,
    companion_with_a_zipped_payload,
    companion_with_an_entrypoint,
    companion_with_a_config_under_another_type,
    companion_with_cose_that_is_a_tar,
    companion_with_layers_elsewhere,
    companion_that_is_an_image,
    companion_of_a_companion,
    companion_tag_with_an_image,
    companion_tag_with_a_disguised_layer,
    companion_tag_with_an_index,
    companion_that_is_a_verdict,
    unsigned_tag,
)


@pytest.fixture(params=[True, False], ids=["referrers API", "fallback tags"])
def attack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Attack]:
    with attacked(tmp_path, api=request.param) as found:
        yield found


def assert_nothing_is_reachable(client: httpx.Client, at: Attack) -> None:
    """By tag, by digest, as a blob, in a list."""
    for reference in (*at.wanted, *at.tags):
        answer = client.get(f"/v2/{APP}/manifests/{reference}")
        assert answer.status_code in (403, 404), (reference, answer.text)
    for digest in at.wanted - at.documents:
        answer = client.get(f"/v2/{APP}/blobs/{digest}")
        assert answer.status_code in (403, 404), digest
    listed = client.get(f"/v2/{APP}/referrers/{at.signed.digest}").json()["manifests"]
    assert not at.wanted & {each["digest"] for each in listed}
    assert not at.tags & set(client.get(f"/v2/{APP}/tags/list").json()["tags"])


def assert_the_signed_image_is_there(client: httpx.Client, at: Attack) -> None:
    for reference in ("v1", at.signed.digest, f"{at.stem}.sig"):
        answer = client.get(f"/v2/{APP}/manifests/{reference}")
        assert answer.status_code == 200, (reference, answer.text)


@pytest.mark.parametrize("disguise", DISGUISES, ids=lambda disguise: disguise.__name__)
def test_a_poll_brings_in_nothing_of_an_attacker(
    attack: Attack, tmp_path: Path, disguise: Callable[[Attack], None]
) -> None:
    disguise(attack)
    for _ in range(2):  # the second one finds what the first one left behind
        with opened(tmp_path, attack.upstream.url, more=policy()) as run:
            mirror(run)
    with running_server(store_of(tmp_path).root) as url, httpx.Client(base_url=url) as client:
        assert_the_signed_image_is_there(client, attack)
        assert_nothing_is_reachable(client, attack)


@pytest.mark.parametrize("disguise", DISGUISES, ids=lambda disguise: disguise.__name__)
def test_a_client_gets_nothing_of_an_attacker_on_demand(
    attack: Attack, tmp_path: Path, disguise: Callable[[Attack], None]
) -> None:
    disguise(attack)
    with mirroring(tmp_path, document(attack.upstream.url), more=policy()) as mirrored:
        client = mirrored.client
        assert client.get(f"/v2/{APP}/manifests/v1").status_code == 200
        client.get(f"/v2/{APP}/referrers/{attack.signed.digest}")
        mirrored.work.wait()
        assert_the_signed_image_is_there(client, attack)
        assert_nothing_is_reachable(client, attack)
        mirrored.work.wait()
        assert_nothing_is_reachable(client, attack)
