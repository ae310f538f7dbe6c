from __future__ import annotations

import json
from pathlib import Path

import pytest

from profiles.errors import ProfileInvalid, Refusal
from profiles.loader import parse_profile
from profiles.values.dask_address import dask_address, parse_dask_address


@pytest.mark.parametrize(
    ("given", "dask"),
    [
        pytest.param("dask://scheduler:8786", "tcp://scheduler:8786", id="plain"),
        pytest.param("dask+tls://scheduler:8786/", "tls://scheduler:8786", id="TLS"),
        pytest.param("dask://[::1]:8786", "tcp://[::1]:8786", id="IPv6"),
    ],
)
def test_the_address_of_a_scheduler(given: str, dask: str) -> None:
    assert dask_address(parse_dask_address(given)) == dask


@pytest.mark.parametrize(
    "given",
    [
        pytest.param("tcp://scheduler:8786", id="Dask's own form"),
        pytest.param("dask://scheduler", id="no port"),
        pytest.param("dask://scheduler:port", id="a port that is no number"),
        pytest.param("dask://me:secret@scheduler:8786", id="credentials"),
        pytest.param("dask://scheduler:8786/jobs", id="a path"),
        pytest.param("threads", id="a word"),
        pytest.param(8786, id="a number"),
    ],
)
def test_what_is_no_address_of_a_scheduler_is_refused(given: object) -> None:
    with pytest.raises(Refusal, match="is not an address of a Dask scheduler; write 'dask://"):
        parse_dask_address(given)


def test_steps_are_carried_out_by_one_engine() -> None:
    sync = {"engine": "dask://scheduler:8786", "processes": 2}
    text = json.dumps({"storage": {"rootDirectory": "/srv"}, "sync": sync})
    with pytest.raises(ProfileInvalid, match="engine and processes: steps are carried out by one of them"):
        parse_profile(text, Path("profile.json"))
