"""What one run of a step answers: its value, and what goes with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry_server.oci.errors import MirrorflowError

V = TypeVar("V")


class Output(Generic[V]):
    """Picklable. Not a dataclass, because Prefect searches those for futures, and draws arrows between the
    tasks that it finds equal strings in.

    Partial failure is a value too: `value` has the members that passed and those that failed, `error` says
    what failed. `summary` is one line for the UI. `remarks` and `requests` are those since the last output of
    this process; `budget` is the upstream's rate limit in words.
    """

    __slots__ = ("budget", "error", "remarks", "requests", "summary", "value")

    def __init__(
        self,
        value: V,
        *,
        error: MirrorflowError | None = None,
        summary: str = "",
    ) -> None:
        self.value, self.error, self.summary = value, error, summary
        self.remarks: tuple[str, ...] = ()
        self.requests: Mapping[str, int] = {}
        self.budget = ""

    def __repr__(self) -> str:
        return "<Output>"  # Prefect logs it beside the message of the state

    def __getstate__(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        for name, value in zip(self.__slots__, state, strict=True):
            setattr(self, name, value)
