from __future__ import annotations

from tests.tasks.stored.audits import filled, mirrored
from tests.tasks.trust.conftest import world

__all__ = ["filled", "mirrored", "world"]
