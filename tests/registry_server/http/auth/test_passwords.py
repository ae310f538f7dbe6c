"""The password file, the checking of passwords, and what a client may show."""

from __future__ import annotations

import asyncio
import subprocess
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from registry_server.http.auth.access_options import AccessUnusable
from registry_server.http.auth.credentials import (
    Anonymous,
    Credentials,
    CredentialsMalformed,
    Password,
    Token,
    bearer_challenge,
    origin,
    read_credentials,
)
from registry_server.http.auth.htpasswd import PasswordFile
from registry_server.http.auth.password_checker import PasswordChecker, TooManyAttempts
from registry_server.http.server_process import ServerFailed
from tests.conftest import require_program
from tests.registry_server.http.auth.support import AUTH, USERS, auth_of, guarded, hashed, write_users

if TYPE_CHECKING:
    from pathlib import Path


BCRYPT = "$2b$04$TZj/WX6g.onufkQNYHqYPOniuv6C5St3.8UZ8iB7WPdl5qaTLqJA."  # of x, as htpasswd writes it


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _checks(passwords: PasswordChecker, *pairs: tuple[str, str]) -> list[bool]:
    async def check() -> list[bool]:
        return [await passwords.check(user, password, "client") for user, password in pairs]

    return anyio.run(check)


def test_users_come_in_with_their_own_password_only(tmp_path: Path) -> None:
    passwords = PasswordChecker(PasswordFile(write_users(tmp_path / "h")), 0)
    pairs = [(user, password) for user in [*USERS, "nobody", ""] for password in [*USERS.values(), ""]]
    assert _checks(passwords, *pairs) == [USERS.get(user) == password for user, password in pairs]


def test_what_htpasswd_writes_is_read(tmp_path: Path) -> None:
    program, path = require_program("htpasswd"), tmp_path / "h"
    subprocess.run(
        [program, "-B", "-C", "4", "-b", "-c", str(path), "eve", "s3cret"], check=True, capture_output=True
    )
    passwords = PasswordChecker(PasswordFile(path), 0)
    assert _checks(passwords, ("eve", "s3cret"), ("eve", "s3cre")) == [True, False]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("alice:$apr1$x$y", "line 2: not a user with a bcrypt hash; write lines with `htpasswd -B`"),
        ("alice:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "line 2"),
        ("alice:plain", "line 2"),
        (":$2y$", "line 2"),
        ("alice", "line 2"),
        (f"bob:{BCRYPT}", "line 2: this user is in the file twice"),
    ],
)
def test_a_file_with_anything_else_is_refused_and_not_shown(
    tmp_path: Path, line: str, complaint: str
) -> None:
    path = tmp_path / "h"
    path.write_text(f"bob:{hashed('x')}\n{line}\n")
    with pytest.raises(AccessUnusable) as refused:
        PasswordFile(path)
    assert complaint in str(refused.value)
    assert "plain" not in str(refused.value)


def test_the_file_is_read_again_when_it_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_users(tmp_path / "h", {"alice": "old"})
    passwords = PasswordChecker(PasswordFile(path), 0)
    assert _checks(passwords, ("alice", "old")) == [True]
    write_users(path, {"alice": "new", "bob": "b"})
    # The old one had been remembered, and counts no more at once.
    assert _checks(passwords, ("alice", "old"), ("alice", "new"), ("bob", "b")) == [False, True, True]
    path.unlink()
    assert _checks(passwords, ("alice", "new")) == [False]
    assert "no user can sign in" in caplog.text
    path.write_text("# nobody\n\nalice:nonsense")
    assert _checks(passwords, ("alice", "new")) == [False]
    write_users(path, {"alice": "new"})
    assert _checks(passwords, ("alice", "new")) == [True]


class _CountingThreads(ThreadPoolExecutor):
    asked = 0

    def submit(self, *given: Any, **named: Any) -> Future[Any]:
        self.asked += 1
        return super().submit(*given, **named)


def test_bcrypt_is_asked_once_a_minute_for_who_is_right(tmp_path: Path) -> None:
    clock = Clock()
    passwords = PasswordChecker(PasswordFile(write_users(tmp_path / "h")), 0, clock=clock)
    threads = passwords._threads = _CountingThreads()
    right = ("alice", USERS["alice"])
    assert _checks(passwords, right, right, right) == [True] * 3
    assert threads.asked == 1
    clock.now += 61
    assert _checks(passwords, right, ("alice", "wrong"), ("alice", "wrong"), ("nobody", "x")) == [
        True,
        False,
        False,
        False,
    ]
    assert threads.asked == 5  # also for a user that is not there: it takes as long


def test_a_failure_waits_and_holds_nobody_up(tmp_path: Path) -> None:
    passwords = PasswordChecker(PasswordFile(write_users(tmp_path / "h")), 3600)

    async def scenario() -> bool:
        guess = asyncio.create_task(passwords.check("alice", "wrong", "10.0.0.1"))
        others = [asyncio.create_task(passwords.check("bob", "wrong", "10.0.0.1")) for _ in range(15)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyAttempts):
            await passwords.check("alice", "wrong", "10.0.0.1")
        found = await passwords.check("alice", USERS["alice"], "10.0.0.2")
        assert not guess.done()
        for task in (guess, *others):
            task.cancel()
        return found

    assert asyncio.run(scenario())


def test_one_address_that_guesses_is_told_to_wait(tmp_path: Path) -> None:
    with guarded(tmp_path, AUTH.replace("1ms", "1h")) as registry:
        refused = None
        for _ in range(1000):
            with suppress(httpx.ReadTimeout):  # it is made to wait, and does not want to
                refused = registry.client.get("/v2/", auth=("alice", "wrong"), timeout=0.05)
                break
        assert refused is not None
        assert (refused.status_code, refused.json()["errors"][0]["code"]) == (429, "TOOMANYREQUESTS")
        assert refused.headers["Retry-After"] == "5"


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"", None),
        (b"Basic", None),
        (b"Basic !!!", None),
        (b"Basic YQ==", None),  # "a": no colon
        (b"Basic /w==", None),  # not UTF-8
        (b"Digest username=x", None),
        (b"Basic " + b"A" * 20_000, None),
        (b"Basic Og==", Anonymous(explicit=True)),  # ":", how containers/image says that it has no user
        (b"basic YTpiOmM=", Password("a", "b:c")),
        (b"BASIC OmI=", Password("", "b")),
        (b"Bearer abc", Token("abc")),
        (b"bearer   abc ", Token("abc")),
    ],
)
def test_credentials_are_read_or_refused(value: bytes, found: Credentials | None) -> None:
    headers = [(b"authorization", value)]
    if found is None:
        with pytest.raises(CredentialsMalformed):
            read_credentials(headers)
    else:
        assert read_credentials(headers) == found
    with pytest.raises(CredentialsMalformed):
        read_credentials(headers * 2)
    assert read_credentials([]) == Anonymous()


def test_credentials_do_not_show_themselves() -> None:
    assert "s3cret" not in repr([Password("a", "s3cret"), Token("s3cret")])


def test_challenges_cannot_be_broken_out_of() -> None:
    assert bearer_challenge('a"b', "s\\") == 'Bearer realm="a\\"b",service="s\\\\"'
    for host in ('x"', "a b", "", "a/b", "user@host", "[::1", "h:99999999"):
        assert origin("http", host, "safe:1") == "http://safe:1"
    for host in ("h", "h:80", "[::1]:5000", "127.0.0.1", "a-b.example"):
        assert origin("https", host, "safe:1") == f"https://{host}"


@pytest.mark.parametrize(
    ("name", "words"), [("none", "cannot read the password file"), ("bad", "line 1: not a user")]
)
def test_a_password_file_that_cannot_be_used_is_named_before_it_listens(
    tmp_path: Path, name: str, words: str
) -> None:
    (tmp_path / "bad").write_text("alice:secret\n")
    with (
        pytest.raises(ServerFailed, match=words) as refused,
        guarded(tmp_path, f"auth: {{htpasswd: {{path: {name}}}}}"),
    ):
        pass
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("user", ["alice", "zoe"])
def test_passwords_of_all_letters_work(tmp_path: Path, user: str) -> None:
    with guarded(tmp_path, AUTH) as registry:
        assert registry.client.get("/v2/", auth=auth_of(user)).status_code == 200
