"""Making repositories in registries that do not make them when something is pushed (createRepositories)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from tasks.destinations.interface import DestinationFailed, DestinationUnavailable

if TYPE_CHECKING:
    from profiles.model.destination import DestinationEntry


class RepositoryCreator(Protocol):
    """The small part of a registry's own API that is used."""

    def create(self, repository: str) -> None:
        """Make a repository, by its full name there. One that is there by now is no error.

        Raises `DestinationFailed`.
        """


class EcrCreator:
    """Amazon's API, by Amazon's library: it finds credentials of machines, roles and profiles."""

    def __init__(self, settings: DestinationEntry) -> None:
        self._settings = settings
        self._client: Any = None

    def create(self, repository: str) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        options = self._settings.create_repositories
        assert options is not None, "who has none of them has no creator"
        mutability = "IMMUTABLE" if options.immutable_tags else "MUTABLE"
        try:
            self._api().create_repository(repositoryName=repository, imageTagMutability=mutability)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code == "RepositoryAlreadyExistsException":
                return
            kind = DestinationUnavailable if code == "ThrottlingException" else DestinationFailed
            raise kind(self._settings.name, f"cannot make the repository {repository}: {error}") from error
        except BotoCoreError as error:
            raise DestinationFailed(
                self._settings.name, f"cannot make the repository {repository}: {error}"
            ) from error

    def _api(self) -> Any:
        if self._client is None:
            from botocore.config import Config
            from botocore.session import Session

            options = self._settings.create_repositories
            self._client = Session().create_client(
                "ecr",
                region_name=self._settings.region,
                endpoint_url=str(options.endpoint) if options and options.endpoint else None,
                config=Config(connect_timeout=5, read_timeout=30, retries={"total_max_attempts": 3}),
            )
        return self._client


def creator_for(settings: DestinationEntry) -> RepositoryCreator | None:
    """None where the registry makes repositories itself. Raises `DestinationFailed` without the library."""
    if settings.create_repositories is None:
        return None
    try:
        import botocore  # noqa: F401 - an extra
    except ImportError as error:
        raise DestinationFailed(
            settings.name,
            "createRepositories needs Amazon's library: install `mirrorflow[aws]`, or drop the key",
        ) from error
    return EcrCreator(settings)
