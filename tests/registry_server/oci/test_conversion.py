"""Docker's manifests as OCI's: what changes, what does not, and that nothing odd gets through."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_server.oci import conversion, media_types
from registry_server.oci.descriptor import Descriptor, Platform
from registry_server.oci.digest import Digest
from registry_server.oci.errors import ManifestInvalid
from registry_server.oci.forms import KEPT, Form
from registry_server.oci.manifest import MAX_MANIFEST_BYTES, Manifest, parse_manifest

DOCKER = "application/vnd.docker.image.rootfs"
OCI = "application/vnd.oci.image.layer"
PLUGIN = "application/vnd.docker.plugin.v1+json"


def blob(media_type: str, name: str = "x", **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": Digest.of(name.encode()), "size": len(name), **more}


def image(*layers: Any, **more: Any) -> Manifest:
    return parsed(
        media_types.DOCKER_MANIFEST, config=blob(media_types.DOCKER_CONFIG), layers=list(layers), **more
    )


def parsed(media_type: str, **fields: Any) -> Manifest:
    document = {"schemaVersion": 2, "mediaType": media_type, **fields}
    return parse_manifest(json.dumps(document, indent=3).encode())


def entry(child: Manifest, **more: Any) -> dict[str, Any]:
    return child.descriptor().to_json() | more


def converted(manifest: Manifest, *children: Manifest) -> dict[str, Any]:
    """As JSON; `children` are converted first."""
    renamed = {each.descriptor().digest: to_oci(each).descriptor() for each in children}
    found: dict[str, Any] = json.loads(to_oci(manifest, renamed).body)
    return found


def to_oci(manifest: Manifest, renamed: dict[Digest, Descriptor] | None = None) -> Manifest:
    return conversion.changed(manifest, oci=True, renamed=renamed or {})


@pytest.mark.parametrize(
    ("docker", "oci"),
    [
        (f"{DOCKER}.diff.tar", f"{OCI}.v1.tar"),
        (f"{DOCKER}.diff.tar.gzip", f"{OCI}.v1.tar+gzip"),
        (f"{DOCKER}.diff.tar.zstd", f"{OCI}.v1.tar+zstd"),
        (f"{DOCKER}.foreign.diff.tar", f"{OCI}.nondistributable.v1.tar"),
        (f"{DOCKER}.foreign.diff.tar.gzip", f"{OCI}.nondistributable.v1.tar+gzip"),
        # No counterpart: it stays what it is.
        (f"{OCI}.v1.tar+gzip", f"{OCI}.v1.tar+gzip"),
        ("application/vnd.example.thing", "application/vnd.example.thing"),
    ],
)
def test_a_layer_changes_its_type_and_nothing_else(docker: str, oci: str) -> None:
    layer = blob(docker, urls=["https://elsewhere.example/layer"], annotations={"a": "b"}, extra=1)
    found = converted(image(layer))
    assert found["mediaType"] == media_types.OCI_MANIFEST
    assert found["layers"] == [layer | {"mediaType": oci}]
    assert found["config"] == blob(media_types.OCI_CONFIG)


def test_the_config_of_a_plugin_stays_one() -> None:
    manifest = parsed(media_types.DOCKER_MANIFEST, config=blob(PLUGIN), layers=[])
    assert converted(manifest)["config"]["mediaType"] == PLUGIN


def test_embedded_content_of_a_blob_stays_and_that_of_a_child_goes() -> None:
    content = base64.b64encode(b"x").decode()
    child = image(blob(f"{DOCKER}.diff.tar", data=content))
    assert converted(child)["layers"][0]["data"] == content
    body = base64.b64encode(child.body).decode()
    [found] = converted(parsed(media_types.DOCKER_LIST, manifests=[entry(child, data=body)]), child)[
        "manifests"
    ]
    assert found == to_oci(child).descriptor().to_json() | {"artifactType": child.descriptor().artifact_type}


def test_a_list_names_its_children_anew_and_keeps_what_else_it_says_of_them() -> None:
    child = image()
    platform = {"architecture": "amd64", "os": "windows", "os.version": "10.0.1", "features": ["sse4"]}
    manifests = [entry(child, platform=platform, annotations={"a": "b"})]
    found = converted(parsed(media_types.DOCKER_LIST, manifests=manifests), child)
    assert found["mediaType"] == media_types.OCI_INDEX
    [named] = found["manifests"]
    new = to_oci(child)
    assert (named["mediaType"], named["size"]) == (media_types.OCI_MANIFEST, len(new.body))
    assert named["digest"] == Digest.of(new.body) != child.descriptor().digest
    assert named["platform"] == {key: value for key, value in platform.items() if key != "features"}
    assert named["annotations"] == {"a": "b"}


def test_an_attestation_is_about_the_image_under_its_new_name() -> None:
    child = image()
    attestation = parsed(media_types.OCI_MANIFEST, config=blob(media_types.OCI_CONFIG), layers=[])
    about = {
        "vnd.docker.reference.type": "attestation-manifest",
        conversion.REFERENCE: str(child.descriptor().digest),
    }
    index = parsed(media_types.OCI_INDEX, manifests=[entry(child), entry(attestation, annotations=about)])
    found = converted(index, child, attestation)
    assert found["manifests"][1]["digest"] == attestation.descriptor().digest
    assert found["manifests"][1]["annotations"] == about | {
        conversion.REFERENCE: found["manifests"][0]["digest"]
    }


def test_what_is_oci_already_keeps_its_bytes() -> None:
    for manifest in (
        parsed(media_types.OCI_MANIFEST, config=blob(media_types.OCI_CONFIG), layers=None),
        # Docker's layer in OCI's manifest: there are such images, and clients take them.
        parsed(media_types.OCI_MANIFEST, config=blob(PLUGIN), layers=[blob(f"{DOCKER}.diff.tar.gzip")]),
        parsed(media_types.OCI_INDEX, manifests=None),
        parsed(media_types.OCI_INDEX, manifests=[blob(media_types.OCI_MANIFEST)]),
        parsed(media_types.OCI_ARTIFACT_MANIFEST, blobs=[blob(f"{DOCKER}.diff.tar")]),
    ):
        assert to_oci(manifest) is manifest


def test_the_null_that_old_tools_write_for_an_empty_list_becomes_one() -> None:
    assert converted(parsed(media_types.DOCKER_MANIFEST, config=blob(PLUGIN), layers=None))["layers"] == []
    assert converted(parsed(media_types.DOCKER_LIST, manifests=None))["manifests"] == []


def test_a_type_that_only_the_content_type_told_is_written_down() -> None:
    body = json.dumps({"schemaVersion": 2, "config": blob(PLUGIN), "layers": []}).encode()
    assert (
        converted(parse_manifest(body, media_types.DOCKER_MANIFEST))["mediaType"] == media_types.OCI_MANIFEST
    )


def test_a_smaller_index_keeps_its_type_and_the_rest_of_its_entries() -> None:
    first, second = image(blob("a/1")), image(blob("a/2"))
    index = parsed(media_types.DOCKER_LIST, manifests=[entry(first), entry(second)], annotations={"a": "b"})
    left_out = {first.descriptor().digest}
    found = conversion.changed(index, oci=False, renamed={}, left_out=left_out)
    assert json.loads(found.body) == json.loads(index.body) | {"manifests": [entry(second)]}
    assert conversion.changed(index, oci=False, renamed={}, left_out={Digest.of(b"-")}) is index


@pytest.mark.parametrize(
    ("artifact_type", "honest"),
    [
        ("application/spdx+json", True),
        ("application/vnd.cyclonedx+json", True),
        ("application/vnd.amazon.soci.index.v1+json", True),
        ("application/vnd.dev.cosign.artifact.sig.v1+json", False),
        ("application/vnd.dev.sigstore.bundle.v0.3+json", False),
        ("application/vnd.cncf.notary.signature", False),
        ("application/vnd.in-toto+json", False),
        ("application/jose+json", False),
        ("application/vnd.example.provenance+json", False),
        ("application/vnd.example.attestation.v1", False),
        ("application/vnd.mirrorflow.verdict.v1+json", False),
    ],
)
def test_a_copy_for_the_new_subject_is_made_of_what_stays_true(artifact_type: str, *, honest: bool) -> None:
    subject, other = image(), to_oci(image())
    referrer = parsed(
        media_types.OCI_MANIFEST,
        artifactType=artifact_type,
        config=blob(media_types.OCI_EMPTY),
        layers=[blob("application/octet-stream")],
        subject=entry(subject),
    )
    assert conversion.may_be_readdressed(referrer) is honest
    if honest:
        copy = conversion.readdressed(referrer, other.descriptor())
        assert copy.subject is not None
        assert copy.subject.digest == other.descriptor().digest
        assert json.loads(copy.body)["layers"] == json.loads(referrer.body)["layers"]


@pytest.mark.parametrize(
    ("manifest", "form", "may"),
    [
        (image(), Form(oci=True), True),
        (image(), Form(rewrite=True, platforms=(Platform("linux"),)), False),
        (image(), KEPT, False),
        (parsed(media_types.OCI_INDEX, manifests=[blob(media_types.OCI_MANIFEST)]), Form(oci=True), False),
        (parsed(media_types.OCI_INDEX, manifests=[blob(media_types.OCI_INDEX)]), Form(oci=True), True),
        (parsed(media_types.OCI_INDEX, manifests=[blob(media_types.DOCKER_MANIFEST)]), Form(oci=True), True),
        (parsed(media_types.DOCKER_LIST, manifests=[]), Form(oci=True), True),
        (
            parsed(media_types.OCI_INDEX, manifests=[]),
            Form(rewrite=True, platforms=(Platform("linux"),)),
            True,
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, Form) else getattr(value, "media_type", str(value)),
)
def test_whether_it_may_change_is_told_without_reading_children(
    manifest: Manifest, form: Form, *, may: bool
) -> None:
    assert conversion.may_change(manifest, form) is may


def test_a_number_that_cannot_be_written_again_is_refused() -> None:
    body = image().body.replace(b'"schemaVersion": 2', b'"schemaVersion": 2, "extra": 1e999')
    with pytest.raises(ManifestInvalid, match="cannot be written again as JSON"):
        to_oci(parse_manifest(body))


def test_what_grows_beyond_the_limit_is_refused() -> None:
    """Written again, each of these letters takes six bytes instead of two."""
    document = json.loads(image().body) | {"note": "ä" * (MAX_MANIFEST_BYTES // 4)}
    body = json.dumps(document, ensure_ascii=False).encode()
    with pytest.raises(ManifestInvalid, match="at most 4194304 are accepted"):
        to_oci(parse_manifest(body))


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_LAYER = st.builds(
    blob,
    st.sampled_from([*conversion._BLOBS, f"{OCI}.v1.tar", "application/vnd.example"]),
    st.text(max_size=4),
    note=_JSON,
)


@given(st.lists(_LAYER, max_size=4), _JSON)
def test_any_image_converts_once_to_the_same_bytes_and_keeps_its_blobs(layers: list[Any], note: Any) -> None:
    manifest = image(*layers, note=note)
    found = to_oci(manifest)
    assert found.body == to_oci(parse_manifest(manifest.body)).body
    assert to_oci(found) is found
    before, after = json.loads(manifest.body), json.loads(found.body)
    assert after["note"] == before["note"]
    assert [each | {"mediaType": ""} for each in after["layers"]] == [
        each | {"mediaType": ""} for each in before["layers"]
    ]
    assert not any(each["mediaType"].startswith(DOCKER) for each in after["layers"])


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=5))
def test_any_index_names_what_its_children_became_in_their_order(kinds: list[tuple[bool, bool]]) -> None:
    """Of each child: whether it is Docker's, and whether the rule leaves it out."""
    children = [
        image(blob("a/b", str(number)))
        if docker
        else parsed(media_types.OCI_MANIFEST, config=blob(PLUGIN), layers=[], note=number)
        for number, (docker, _) in enumerate(kinds)
    ]
    index = parsed(media_types.DOCKER_LIST, manifests=[entry(child) for child in children])
    left_out = {child.descriptor().digest for child, (_, out) in zip(children, kinds, strict=True) if out}
    made = {child.descriptor().digest: to_oci(child) for child in children}
    renamed = {digest: new.descriptor() for digest, new in made.items() if new.descriptor().digest != digest}
    found = conversion.changed(index, oci=True, renamed=renamed, left_out=left_out)
    assert [each.digest for each in found.manifests] == [
        made[child.digest].descriptor().digest for child in index.manifests if child.digest not in left_out
    ]
    assert [each.size for each in found.manifests] == [
        len(made[child.digest].body) for child in index.manifests if child.digest not in left_out
    ]


@pytest.mark.parametrize(
    "form", [KEPT, Form(oci=True), Form(rewrite=True, platforms=(Platform("linux", "arm", "v7"),))]
)
def test_a_form_is_read_back_as_it_was_written(form: Form) -> None:
    assert Form.from_json(json.loads(json.dumps(form.to_json()))) == form
    assert Form.from_json(None) == KEPT


def test_a_form_says_what_it_is() -> None:
    assert str(Form(oci=True, rewrite=True, platforms=(Platform("linux", "amd64"),))) == (
        "converted to OCI, cut down to linux/amd64"
    )
    assert str(KEPT) == "kept as it is"
