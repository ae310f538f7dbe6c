"""What can be wrong with a profile.

ProfileError                    (MirrorflowError)
├── ProfileUnreadable           the file is missing, is a folder, is not text, may not be read
└── ProfileInvalid              everything that is wrong in it, at once, each with its place

`Refusal` travels inside pydantic, from the validator that refuses a value to the loader that knows
where in the file the value stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from pathlib import Path

    from profiles.loading.key_names import KeyPath


class ProfileError(MirrorflowError):
    """A profile that cannot be used. Doing the same again does not help: edit the file."""


class ProfileUnreadable(ProfileError):
    """There is no text to look at."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where it stands, what was found there, what to write instead.

    `line` and `column` count from 1; `path` is how the profile spells the place, e.g.
    `sync.registries[0].content[1].tags.regex`.
    """

    file: Path
    line: int
    column: int
    path: str
    found: str
    write: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}: "
        subject = f"{self.path}: " if self.path else ""
        advice = f"; {self.write}" if self.write else ""
        return f"{place}{subject}{self.found}{advice}"


class Severity(StrEnum):
    """What becomes of a profile that has what a warning is about."""

    ADVICE = "advice"  # it works, and probably not as was meant
    TAKES_NOTHING = "takes nothing"  # the rule, the entry or the profile mirrors nothing
    FAILS = "fails"  # each request to an upstream will fail


@dataclass(frozen=True, slots=True)
class ProfileWarning(Problem):
    """Something that is allowed and yet probably not what was meant."""

    severity: Severity = Severity.ADVICE


class ProfileInvalid(ProfileError):
    """`problems` in the order of the file; the message has one line for each."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class Refusal(ValueError):
    """A value that a validator does not take.

    `found` says what is wrong with it, `write` what to write instead. `at` leads from the model that was
    being validated to the culprit, in the profile's own spelling; `involves` names further keys of that
    model without which the refusal would not have happened. `cause` leads from the profile itself to a value
    whose own refusal makes this one needless: a name is not unknown because its key could not be read.
    """

    def __init__(
        self,
        found: str,
        write: str,
        *,
        at: tuple[str | int, ...] = (),
        involves: tuple[str, ...] = (),
        cause: tuple[str, ...] = (),
    ) -> None:
        super().__init__(f"{found}; {write}" if write else found)
        self.found = found
        self.write = write
        self.at = at
        self.involves = involves
        self.cause = cause


class Refusals(ValueError):
    """Several refusals of one model, so that they are all reported and not the first only."""

    def __init__(self, refusals: tuple[Refusal, ...]) -> None:
        super().__init__("; ".join(map(str, refusals)))
        self.refusals = refusals


class Finding(NamedTuple):
    """Where, what was found there, what to write instead."""

    path: KeyPath
    found: str
    write: str
    severity: Severity = Severity.ADVICE

    @classmethod
    def takes_nothing(cls, path: KeyPath, found: str, write: str) -> Finding:
        return cls(path, found, write, Severity.TAKES_NOTHING)
