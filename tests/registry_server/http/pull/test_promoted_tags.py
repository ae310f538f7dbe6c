"""Many tags that change at once, as an HTTP client sees them."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

from registry_server.store.mirror_state.tag_switch import switch_tags
from tests.registry_server.store.mirror_state.switching import REPOSITORIES, TAGS, change_to, digests
from tests.support.registries import running_registry

if TYPE_CHECKING:
    from pathlib import Path

PROMOTIONS = 40


def test_a_client_never_gets_an_older_tag_after_a_newer_one(tmp_path: Path) -> None:
    """HEAD of tags of four repositories in random order, while all of them are promoted again and again."""
    known, done = digests(), threading.Event()
    names = [f"/v2/{repository}/manifests/{tag}" for repository in REPOSITORIES for tag in TAGS]
    with running_registry(tmp_path) as registry:
        switch_tags(registry.store, change_to(registry.store, 0))

        def promote() -> None:
            try:
                for version in range(1, PROMOTIONS):
                    switch_tags(registry.store, change_to(registry.store, version))
            finally:
                done.set()

        writer = threading.Thread(target=promote)
        writer.start()
        seen = [0]
        while not done.is_set():
            answer = registry.client.head(random.choice(names))  # noqa: S311 - any of them
            assert answer.status_code == 200
            seen.append(known[answer.headers["Docker-Content-Digest"]])
        writer.join()
        assert seen == sorted(seen)
        assert len(set(seen)) > 3, "it saw several promotions"
        last = {registry.client.head(name).headers["Docker-Content-Digest"] for name in names}
    assert [known[each] for each in last] == [PROMOTIONS - 1]
