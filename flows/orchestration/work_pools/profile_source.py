"""Where the runs of workers find the profile: a file of each host, a git checkout, or a block of Prefect.

A run starts in an empty folder of some host. So what is found there may not depend on the folder that the
profile was in when it was deployed: the store's folders have to be absolute, and in a block every file too.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

from flows.lifecycle.profile_location import BLOCK_PREFIX
from flows.lifecycle.profile_watch import named_files
from flows.orchestration.deployments import DeploymentError
from profiles.loader import parse_profile, read_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from profiles.loader import LoadedProfile

_ELSEWHERE: Final = Path("/mirrorflow-elsewhere")
_PACKAGES: Final = ("flows", "tasks", "profiles", "registry_server")
_BLOCK_NAME: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class ProfileSource(Protocol):
    """`profile` is the parameter of the flow, `pull_steps` is what Prefect does before the run."""

    @property
    def profile(self) -> str: ...
    @property
    def pull_steps(self) -> tuple[Mapping[str, Any], ...]: ...
    def save(self) -> None:
        """Put it where runs look for it, if nobody else does. Raises what Prefect's client raises."""
        ...


@dataclass(frozen=True, slots=True)
class ProfileByPath:
    """Each host has it under the same path."""

    path: Path
    pull_steps: tuple[Mapping[str, Any], ...] = ()

    @property
    def profile(self) -> str:
        return str(self.path.absolute())

    def save(self) -> None:
        """It is there."""


@dataclass(frozen=True, slots=True)
class ProfileInGit:
    """Each run clones the repository, and begins in the folder of the profile.

    Python looks there for packages first, and a repository may have folders named as ours. `path` is the
    profile's, from the top.

    `secret` names a Secret block of Prefect with the token for a private repository.
    """

    repository: str
    path: Path
    branch: str | None = None
    secret: str | None = None

    @property
    def profile(self) -> str:
        return self.path.name

    @property
    def pull_steps(self) -> tuple[Mapping[str, Any], ...]:
        clone = {"id": "clone", "repository": self.repository}
        clone |= {"branch": self.branch} if self.branch else {}
        clone |= {"access_token": f"{{{{ prefect.blocks.secret.{self.secret} }}}}"} if self.secret else {}
        folder = "/".join(("{{ clone.directory }}", *self.path.parent.parts))
        return (
            {"prefect.deployments.steps.git_clone": clone},
            {"prefect.deployments.steps.set_working_directory": {"directory": folder}},
        )

    def save(self) -> None:
        """Whoever pushes to the repository does."""


@dataclass(frozen=True, slots=True)
class ProfileInBlock:
    """The Prefect server keeps the text, in a block that its UI shows. `name` is the block's."""

    name: str
    path: Path
    text: str = field(repr=False)
    pull_steps: tuple[Mapping[str, Any], ...] = ()

    @property
    def profile(self) -> str:
        return f"{BLOCK_PREFIX}{self.name}"

    def save(self) -> None:
        from flows.orchestration.work_pools.profile_block import save_block

        save_block(self.name, self.text, suffix=self.path.suffix)


def in_block(loaded: LoadedProfile, name: str) -> ProfileInBlock:
    """Raises `DeploymentError` where the profile says where a file is by a path that begins at its folder."""
    if not _BLOCK_NAME.fullmatch(name):
        raise DeploymentError(
            f"{name!r} cannot name a block: write lower case letters, digits and single '-' between them"
        )
    relative = [*_relative_stores(loaded), *_relative_files(loaded)]
    if relative:
        raise DeploymentError(
            f"{loaded.path}: with --profile-block, every path has to be absolute, because a run has no "
            f"folder of the profile; relative are {_listed(relative)}"
        )
    return ProfileInBlock(name, loaded.path, read_text(loaded.path))


def in_git(
    loaded: LoadedProfile, repository: str, *, branch: str | None = None, secret: str | None = None
) -> ProfileInGit:
    """Raises `DeploymentError`: no checkout around the profile, a relative store, a password in the URL."""
    parts = urlsplit(repository)
    if parts.password or (parts.username and parts.scheme in ("http", "https")):
        raise DeploymentError(
            "--git: the address has credentials, which everybody who sees the deployment could read; put a "
            "token into a Secret block of Prefect and name that: --git-secret NAME"
        )
    if relative := _relative_stores(loaded):
        raise DeploymentError(
            f"{loaded.path}: with --git, the folders of the store have to be absolute, because each run "
            f"has a checkout of its own; relative are {_listed(relative)}"
        )
    path = loaded.path.absolute()
    top = next((each for each in path.parents if (each / ".git").exists()), None)
    if top is None:
        raise DeploymentError(
            f"{loaded.path}: is in no git checkout, so where it is in {repository} is unknown; deploy it "
            "from a checkout"
        )
    if hiding := [each for each in _PACKAGES if (path.parent / each).exists()]:
        raise DeploymentError(
            f"{loaded.path}: is beside a folder {hiding[0]!r}, which Python would take for a package of "
            "mirrorflow in a run; put the profile into a folder of its own"
        )
    return ProfileInGit(repository, path.relative_to(top), branch, secret)


def _relative_stores(loaded: LoadedProfile) -> list[Path]:
    storage = _moved(loaded).profile.storage
    roots = (storage.root_directory, *storage.roots().values())
    return [each.relative_to(_ELSEWHERE) for each in roots if each.is_relative_to(_ELSEWHERE)]


def _relative_files(loaded: LoadedProfile) -> list[Path]:
    files = named_files(_moved(loaded).profile)
    return [each.relative_to(_ELSEWHERE) for each in files if each.is_relative_to(_ELSEWHERE)]


def _moved(loaded: LoadedProfile) -> LoadedProfile:
    """The same profile in another folder: what moves with it was relative."""
    return parse_profile(read_text(loaded.path), loaded.path, folder=_ELSEWHERE)


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(os.fspath(each) for each in dict.fromkeys(paths))
