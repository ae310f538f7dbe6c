"""Which port our own Prefect server gets."""

from __future__ import annotations

import socket

import pytest

from flows.orchestration.prefect_port import ADDRESS, USUAL_PORT, PrefectServerError, choose_port


def test_two_servers_that_start_at_once_get_different_ports() -> None:
    first, second = choose_port(None), choose_port(None)
    first.close()
    second.close()
    assert first.number != second.number


def test_any_port_is_not_the_usual_one() -> None:
    chosen = choose_port(0)
    chosen.close()
    assert chosen.number not in (0, USUAL_PORT)


def test_a_port_that_is_wanted_and_taken_is_an_error() -> None:
    other = socket.create_server((ADDRESS, 0))
    port = other.getsockname()[1]
    with other, pytest.raises(PrefectServerError, match=f"port {port} on {ADDRESS} is taken"):
        choose_port(port)
