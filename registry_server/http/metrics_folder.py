"""Where workers keep their counts. Apart from metrics.py: it is to be there before that is imported."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


@contextmanager
def shared_folder() -> Iterator[None]:
    """Where the workers that are started meanwhile keep their counts; gone afterwards."""
    before = os.environ.get(_FOLDER)
    with tempfile.TemporaryDirectory(prefix="mirrorflow-metrics-", ignore_cleanup_errors=True) as folder:
        os.environ[_FOLDER] = folder
        try:
            yield
        finally:
            os.environ.pop(_FOLDER, None)
            if before is not None:
                os.environ[_FOLDER] = before
