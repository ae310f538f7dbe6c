"""What a run knows of lists of referrers, and how it asks for them."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from registry_server.oci.digest import Digest
from registry_server.oci.media_types import OCI_INDEX
from tasks.context.mirror_run import RecentManifests
from tasks.context.referrer_lists import ReferrerLists
from tests.support_misbehaving import answers, misbehaving
from tests.tasks.upstream.clients import client

if TYPE_CHECKING:
    from tests.support_misbehaving import Exchange

EMPTY = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode()
FIRST, *OTHERS = (Digest.of(name) for name in (b"first", b"second", b"third"))


def test_who_waited_to_hear_of_the_api_asks_beside_the_others() -> None:
    asked, called, together = threading.Event(), threading.Semaphore(0), threading.Barrier(len(OTHERS))

    def first(exchange: Exchange) -> None:
        asked.set()
        assert all(called.acquire(timeout=5) for _ in OTHERS)
        answers(200, EMPTY, Content_Type=OCI_INDEX)(exchange)

    def beside(exchange: Exchange) -> None:
        together.wait(5)
        answers(200, EMPTY, Content_Type=OCI_INDEX)(exchange)

    def other(digest: Digest) -> object:
        called.release()
        return lists.referrers_by_api("app", digest)

    with misbehaving() as upstream, client(upstream) as registry, ThreadPoolExecutor(3) as threads:
        upstream.on(f"/v2/app/referrers/{FIRST}", first)
        for digest in OTHERS:
            upstream.on(f"/v2/app/referrers/{digest}", beside)
        lists = ReferrerLists(registry, RecentManifests())
        probing = threads.submit(lists.referrers_by_api, "app", FIRST)
        assert asked.wait(5)
        assert [*threads.map(other, OTHERS)] == [(), ()]
        assert probing.result() == ()
