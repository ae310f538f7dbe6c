"""Windows images: what is stored of them, polled and on demand, and what a poll costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from registry_server.oci.digest import Digest
from registry_server.oci.reference import ImageName, RepositoryName, Tag
from registry_server.store.layout.exporter import export_images
from registry_server.store.layout.importer import import_images
from registry_server.store.store import Store
from tests.in_the_wild.cases.windows import APP, BASE, ELSEWHERE, FETCH, builds, foreign
from tests.on_demand.mirrors import document, mirroring
from tests.support.stored_files import file_of
from tests.tasks.runs import asked, store_of, sync

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support_misbehaving import Misbehaving

LAYER = Digest.of(BASE)
NAME = RepositoryName(APP)


def test_a_foreign_layer_is_here_only_where_a_rule_wants_it(tmp_path: Path, upstream: Misbehaving) -> None:
    foreign(ELSEWHERE)(upstream)
    sync(tmp_path, upstream)
    assert not store_of(tmp_path).repository(NAME).has_blob(LAYER)
    assert upstream.requests(path=ELSEWHERE) == []
    sync(tmp_path, upstream, *FETCH)
    assert file_of(store_of(tmp_path).repository(NAME), LAYER).read_bytes() == BASE
    asked(upstream)
    assert sync(tmp_path, upstream, *FETCH).unchanged == 1
    assert asked(upstream) == {"GET tags": 1, "HEAD manifests": 1}


def test_no_credentials_go_to_an_address_that_a_manifest_names(tmp_path: Path, upstream: Misbehaving) -> None:
    foreign(ELSEWHERE)(upstream)
    sync(tmp_path, upstream, *FETCH)
    [seen] = upstream.requests(path=ELSEWHERE)
    assert {"authorization", "cookie"}.isdisjoint(seen.headers)


def test_a_foreign_layer_goes_with_its_image_into_a_layout(tmp_path: Path, upstream: Misbehaving) -> None:
    foreign(ELSEWHERE)(upstream)
    sync(tmp_path, upstream, *FETCH)
    export_images(store_of(tmp_path), [ImageName(NAME, Tag("1"))], tmp_path / "out.tar")
    other = Store.open(tmp_path / "other")
    import_images(other, tmp_path / "out.tar")
    assert other.repository(NAME).has_blob(LAYER)


@pytest.mark.parametrize("fetch", [False, True])
def test_on_demand_a_foreign_layer_is_handed_out_where_a_rule_wants_it(
    tmp_path: Path, upstream: Misbehaving, *, fetch: bool
) -> None:
    foreign(ELSEWHERE)(upstream)
    content = list(FETCH) if fetch else [{"prefix": "**"}]
    with mirroring(tmp_path, document(f"http://{upstream.host}", content=content)) as found:
        assert found.client.get(f"/v2/{APP}/manifests/1").status_code == 200
        answer = found.client.get(f"/v2/{APP}/blobs/{LAYER}")
        assert answer.status_code == (200 if fetch else 404)
        found.work.wait()
        assert found.store.repository(NAME).has_blob(LAYER) is fetch


def test_of_one_build_of_windows_only_that_is_stored(tmp_path: Path, upstream: Misbehaving) -> None:
    builds(upstream)
    sync(tmp_path, upstream, {"prefix": "**", "platforms": ["windows(10.0.17763)/amd64"]})
    held = [
        store_of(tmp_path).repository(NAME).has_blob(Digest.of(each)) for each in (b"old", b"new", b"linux")
    ]
    assert held == [True, False, False]
