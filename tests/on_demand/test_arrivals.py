"""Who waits for a blob hears of its own arrival, and never of another's end."""

from __future__ import annotations

import pytest

from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName
from tasks.on_demand.answers import Miss, refusal
from tasks.on_demand.arrivals import Arrivals, NotArrived
from tasks.upstream.errors import UpstreamUnavailable, Where

LOCAL = RepositoryName("library/app")
OTHER = RepositoryName("library/other")
BLOB = Digest.of(b"layer")


def test_of_all_who_expect_a_blob_the_first_one_fetches_it() -> None:
    arrivals = Arrivals()
    first, new = arrivals.expect(LOCAL, BLOB)
    second, again = arrivals.expect(LOCAL, BLOB)
    assert (new, again) == (True, False)
    assert first is second


def test_bytes_for_one_repository_are_bytes_for_all_in_its_root() -> None:
    arrivals = Arrivals(frozenset({"apart"}))
    here, _ = arrivals.expect(LOCAL, BLOB)
    there, _ = arrivals.expect(OTHER, BLOB)
    apart, _ = arrivals.expect(RepositoryName("apart/app"), BLOB)
    arrivals.moved(LOCAL, BLOB)
    assert (here.done(), there.done(), apart.done()) == (True, True, False)


def test_an_image_that_is_given_up_tells_who_waits_for_its_blobs() -> None:
    arrivals = Arrivals()
    waiting, _ = arrivals.expect(LOCAL, BLOB)
    arrivals.given_up(LOCAL, BLOB, waiting)
    with pytest.raises(NotArrived):
        waiting.result(0)


def test_the_end_of_an_earlier_attempt_leaves_the_next_one_alone() -> None:
    arrivals = Arrivals()
    earlier, _ = arrivals.expect(LOCAL, BLOB)
    arrivals.failed(LOCAL, BLOB, UpstreamUnavailable(Where("registry1"), "503"))
    later, new = arrivals.expect(LOCAL, BLOB)
    arrivals.given_up(LOCAL, BLOB, earlier)
    assert new
    assert not later.done()
    assert isinstance(earlier.exception(0), UpstreamUnavailable)


def test_what_has_not_arrived_may_be_asked_for_again() -> None:
    answer = refusal(Miss("blob", LOCAL, BLOB), NotArrived("given up"))
    assert (answer.status, answer.retry_after) == (503, 2.0)
