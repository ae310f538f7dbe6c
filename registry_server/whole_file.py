"""Files outside of the store that are replaced as a whole: a reader sees the old or the new content."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def write_whole(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Replace the file at `path`, or make it. Raises OSError; then the old file is still there.

    `mode` is that of the new file, less the umask of the process.
    """
    staged = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        staged.replace(path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
