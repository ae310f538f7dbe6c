from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from registry_server.whole_file import write_whole

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("before", [None, b"a longer text than the new one"])
def test_a_file_has_the_new_content_and_nothing_else(tmp_path: Path, before: bytes | None) -> None:
    path = tmp_path / "lock"
    if before is not None:
        path.write_bytes(before)
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert [each.name for each in tmp_path.iterdir()] == ["lock"]


def test_a_reader_that_has_the_old_file_open_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        write_whole(path, b"new")
        assert reader.read() == b"old"


def test_what_cannot_be_replaced_stays_and_nothing_is_left_behind(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_whole(tmp_path / "lock", b"new")
    assert [each.name for each in tmp_path.iterdir()] == ["lock"]


def test_a_secret_is_for_its_owner_alone_from_its_first_byte(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"old")
    path.chmod(0o644)
    write_whole(path, b"new", mode=0o600)
    assert path.stat().st_mode & 0o777 == 0o600
