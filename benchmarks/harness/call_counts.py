"""Which of our own functions run, in how many files, and which calls go from one file into another."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.ours import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType

    Call = tuple[CodeType, CodeType | None]  # the function, and its caller

_OWN: Final = tuple(f"{ROOT / floor}/" for floor in ("flows", "tasks", "profiles", "registry_server"))
_PARTS: Final = frozenset({"<lambda>", "<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"})


@dataclass(frozen=True, slots=True)
class Walk:
    """The calls of our functions, in their order. A generator that goes on counts as called."""

    calls: tuple[Call, ...]

    @property
    def functions(self) -> int:
        """Lambdas and comprehensions belong to the function around them."""
        return len({code for code, _ in self.calls if code.co_name not in _PARTS})

    @property
    def files(self) -> Counter[str]:
        """Functions of each file."""
        return Counter(_file(code) for code in {code for code, _ in self.calls if code.co_name not in _PARTS})

    @property
    def crossing(self) -> Counter[str]:
        """Calls from another of our files, as `file: caller -> file: function`."""
        return Counter(
            f"{_name(caller)} -> {_name(code)}"
            for code, caller in self.calls
            if caller and caller.co_filename.startswith(_OWN) and caller.co_filename != code.co_filename
        )


def _file(code: CodeType) -> str:
    return code.co_filename.removeprefix(f"{ROOT}/")


def _name(code: CodeType) -> str:
    return f"{_file(code)}: {code.co_qualname}"


@dataclass(slots=True)
class CallRecorder:
    """Sees this thread, and every thread that starts while it is `open`."""

    _recording: bool = False
    _calls: list[Call] = field(default_factory=list)

    @contextmanager
    def open(self) -> Iterator[None]:
        threading.setprofile(self._saw)
        sys.setprofile(self._saw)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    def _saw(self, frame: FrameType, event: str, _argument: Any) -> None:
        if self._recording and event == "call" and frame.f_code.co_filename.startswith(_OWN):
            self._calls.append((frame.f_code, frame.f_back.f_code if frame.f_back else None))

    @contextmanager
    def record(self) -> Iterator[None]:
        """What is called in this block is the next `taken`."""
        self._calls.clear()
        self._recording = True
        try:
            yield
        finally:
            self._recording = False

    def taken(self) -> Walk:
        return Walk(tuple(self._calls))
