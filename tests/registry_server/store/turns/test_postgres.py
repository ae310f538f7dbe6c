"""Turns by PostgreSQL where connections break, servers restart, and nobody answers."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from registry_server.store.errors import StoreError, StoreLocked, StoreUnreachable, TurnLost
from registry_server.store.filesystem.process_identity import ProcessIdentity
from registry_server.store.turns.postgres import PostgresTurns
from registry_server.store.turns.postgres_sessions import Sessions, application_name, identity_of
from tests.support.postgres_server import PASSWORD, running_postgres
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.postgres_server import PostgresServer

LOOK = 0.05
"""Seconds between two looks at a role: short, so that a test need not wait."""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running_postgres() as found:
        yield found


@pytest.fixture
def turns(server: PostgresServer, tmp_path: Path) -> PostgresTurns:
    return PostgresTurns(server.url, tmp_path.name, now=time.time, look_seconds=LOOK)


def another(server: PostgresServer, tmp_path: Path) -> PostgresTurns:
    """What another process would have for the same store."""
    return PostgresTurns(server.url, tmp_path.name, now=time.time, look_seconds=LOOK)


@pytest.mark.parametrize("kind", ["alone", "among_others"])
def test_a_turn_that_was_cut_off_is_an_error_at_its_end(
    server: PostgresServer, turns: PostgresTurns, kind: str
) -> None:
    with pytest.raises(TurnLost, match="was lost while it was held") as raised, getattr(turns, kind)("a"):
        server.cut_connections()
    assert raised.value.retryable
    assert PASSWORD not in str(raised.value)


def test_a_turn_that_was_cut_off_can_be_had_by_another_at_once(
    server: PostgresServer, turns: PostgresTurns, tmp_path: Path
) -> None:
    taken = []

    def cut_and_take() -> None:
        server.cut_connections()
        with another(server, tmp_path).alone("a"):
            taken.append("a")

    with pytest.raises(TurnLost), turns.alone("a"):
        cut_and_take()
    assert taken == ["a"]


def test_an_error_of_the_block_is_not_hidden_by_the_lost_turn(
    server: PostgresServer, turns: PostgresTurns
) -> None:
    def cut_and_fail() -> None:
        server.cut_connections()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), turns.alone("a"):
        cut_and_fail()


def test_a_session_that_does_not_hold_its_lock_is_an_error(turns: PostgresTurns) -> None:
    """As behind a pooler that gives each statement to another session of the server."""
    turn = turns._turn(("SELECT %s", "SELECT pg_advisory_unlock(%s)"), "a")
    with pytest.raises(TurnLost, match="pool_mode = session"), turn:
        pass


def test_idle_sessions_that_were_cut_are_replaced(server: PostgresServer, turns: PostgresTurns) -> None:
    with turns.alone("a"), turns.alone("b"), turns.alone("c"):
        pass
    server.cut_connections()
    with turns.alone("a"), turns.among_others("b"):
        assert not turns.is_claimed("up")


def test_a_restarted_server_is_waited_for(server: PostgresServer, turns: PostgresTurns) -> None:
    with turns.alone("a"):
        pass
    server.stop()
    pid = os.fork()
    if not pid:
        time.sleep(0.5)
        server.start()
        os._exit(0)
    with turns.alone("a"):
        assert os.waitpid(pid, 0)[1] == 0


def test_a_role_that_was_lost_is_taken_again(server: PostgresServer, turns: PostgresTurns) -> None:
    with turns.claim("up"):
        server.cut_connections()
        wait_for(lambda: turns.is_claimed("up"))
    assert not turns.is_claimed("up")


def test_a_role_that_another_took_meanwhile_is_an_error_at_the_end(
    server: PostgresServer, turns: PostgresTurns, tmp_path: Path
) -> None:
    held = turns._watch("up")
    assert held.take()
    server.cut_connections()
    with another(server, tmp_path).claim("up"):
        held.look()
        holder = turns.claimant("up")
    held.look()  # free again, and not ours: what we did since may have been done by two
    assert holder is not None
    assert not turns.is_claimed("up")
    with pytest.raises(TurnLost), held.kept(LOOK):
        pass


def test_a_role_whose_server_is_gone_is_an_error_at_the_end(
    server: PostgresServer, turns: PostgresTurns
) -> None:
    try:
        with pytest.raises(TurnLost), turns.claim("up"):
            server.stop()
    finally:
        server.start()


def test_a_lease_that_was_lost_is_taken_again_with_its_begin(
    server: PostgresServer, turns: PostgresTurns
) -> None:
    with turns.lease():
        began = turns.oldest_lease()
        assert began is not None
        time.sleep(1.1)
        server.cut_connections()
        wait_for(lambda: turns.oldest_lease() is not None)
        assert turns.oldest_lease() == pytest.approx(began, abs=0.5)
    assert turns.oldest_lease() is None


def test_stores_of_one_database_have_turns_of_their_own(server: PostgresServer) -> None:
    one, two = (PostgresTurns(server.url, uuid, now=time.time) for uuid in ("one", "two"))
    with one.alone("a"), two.alone("a"), one.claim("up"), two.claim("up"), one.lease():
        assert two.oldest_lease() is None


def test_a_forked_child_does_not_end_the_turns_of_its_parent(
    server: PostgresServer, turns: PostgresTurns, tmp_path: Path
) -> None:
    with turns.claim("gc"), turns.alone("a"):
        with turns.alone("b"):  # leaves an idle session that the child must not use
            pass
        pid = os.fork()
        if not pid:
            code = 1
            try:
                with turns.alone("b"):
                    code = 0
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        with turns.alone("b"), pytest.raises(StoreLocked):
            another(server, tmp_path).claim("gc").__enter__()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param((PASSWORD, "wrong-one"), "password authentication failed", id="wrong password"),
        pytest.param(("postgres?", "nothing?"), 'database "nothing" does not exist', id="no such database"),
        pytest.param(("@127.0.0.1", "@127.0.0.2"), "Connection refused", id="nobody listens"),
        pytest.param(("127.0.0.1", "no.such.host.invalid"), "no.such.host.invalid", id="no such host"),
    ],
)
def test_what_cannot_be_reached_is_one_clear_error(
    server: PostgresServer, change: tuple[str, str], told: str
) -> None:
    url = f"{server.url}?".replace(*change)
    turns = PostgresTurns(url, "store", now=time.time, retry_seconds=0.5)
    with pytest.raises(StoreUnreachable) as raised:
        turns.is_claimed("up")
    message = str(raised.value)
    assert told in message
    assert message.startswith("PostgreSQL at ")
    assert "check that it runs" in message
    assert not {PASSWORD, "wrong-one"} & {*message.replace("'", " ").split()}
    assert "\n" not in message


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("postgresql://user:hidden%zz@host/db", id="a wrong escape"),
        pytest.param("host=h password='hidden", id="an open quote"),
        pytest.param("hidden", id="no URL at all"),
    ],
)
def test_a_url_that_cannot_be_read_is_not_repeated(url: str) -> None:
    with pytest.raises(StoreError, match="write postgresql://") as raised:
        Sessions(url)
    assert "hidden" not in str(raised.value)


def test_it_connects_only_when_it_is_used() -> None:
    turns = PostgresTurns("postgresql://user:hidden@127.0.0.1:1/db", "store", now=time.time)
    assert turns.where == "PostgreSQL at 127.0.0.1:1/db"


@pytest.mark.parametrize(
    "identity",
    [
        pytest.param(ProcessIdentity.current(), id="this process"),
        pytest.param(ProcessIdentity(7, "node-3", "0a1b2c3d"), id="another host"),
        pytest.param(ProcessIdentity(7, "node-3", ""), id="no boot id"),
    ],
)
def test_the_name_of_a_session_says_which_process_it_is(identity: ProcessIdentity) -> None:
    assert identity_of(application_name(identity)) == identity


@pytest.mark.parametrize("name", ["psql", "", "mirrorflow", "mirrorflow x - host", "mirrorflow 7 -"])
def test_the_name_of_another_program_says_nothing(name: str) -> None:
    assert identity_of(name) is None


def test_the_name_of_a_session_is_not_cut_by_the_server() -> None:
    identity = ProcessIdentity(4194304, "h" * 200, "0a1b2c3d-0000-0000-0000-000000000000")
    assert len(application_name(identity)) <= 63
