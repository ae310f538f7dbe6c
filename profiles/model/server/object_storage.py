"""A store in object storage: the bucket, and the locks of several hosts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from profiles.errors import Refusal
from profiles.model.fields import ProfileModel, ProfilePath
from registry_server.store.errors import StoreError
from registry_server.store.objects.storage_driver import StorageDriver


def _one_word(text: str) -> str:
    if not text or "/" in text or text.strip() != text:
        raise Refusal(
            f"{text!r} is no name of a bucket", "write the name alone, and a folder in rootdirectory"
        )
    return text


class ObjectStorage(ProfileModel):
    """The bucket that the store is in. The keys are zot's.

    Credentials do not belong in the profile. They come from where the clouds' own libraries look: environment
    variables such as AWS_ACCESS_KEY_ID, the role of the machine, workload identity.
    """

    name: Literal["s3", "gcs", "azure"] = Field(
        description="s3: Amazon S3, or another server that speaks its API and has conditional writes (MinIO, "
        "Ceph, versitygw). gcs: Google Cloud Storage. azure: Azure Blob Storage."
    )
    bucket: Annotated[str, AfterValidator(_one_word)] = Field(
        description="The bucket (azure: the container); it has to exist.", examples=["mirror"]
    )
    rootdirectory: str = Field(
        default="", description="What all keys in the bucket begin with.", examples=["/mirrorflow"]
    )
    region: str = Field(default="", description="s3: the region of the bucket.", examples=["eu-central-1"])
    regionendpoint: str = Field(
        default="",
        description="Another server than the cloud's own, as a URL or as host:port.",
        examples=["https://s3.example.com"],
    )
    forcepathstyle: bool | None = Field(
        default=None,
        description="s3: whether the bucket stands in the path and not in the host name. Default: true with "
        "`regionendpoint`.",
    )
    secure: bool = Field(default=True, description="Whether a `regionendpoint` without https:// speaks TLS.")
    skipverify: bool = Field(default=False, description="true: accept any certificate.")
    accountname: str = Field(default="", description="azure: the storage account.", examples=["mirror"])

    @field_validator("regionendpoint")
    @classmethod
    def _is_an_address(cls, text: str) -> str:
        try:
            StorageDriver("s3", "any", regionendpoint=text).endpoint  # noqa: B018 - for what it raises
        except StoreError:
            raise Refusal(
                "regionendpoint is no address of a server, or has a user or a password in it",
                "write 'https://s3.example.com' or '10.0.0.7:9000'",
            ) from None
        return text

    def driver(self) -> StorageDriver:
        """What the store is opened with."""
        return StorageDriver(**self.model_dump())


class Locks(ProfileModel):
    """A PostgreSQL whose advisory locks keep the processes of several hosts apart; no table is made in it.

    Without it, locks are files in `rootDirectory`: enough for one host. Several hosts without it would delete
    each other's content.
    """

    postgres_url_file: ProfilePath | None = Field(
        default=None,
        description="File with the URL (postgresql://user:password@host/database). Relative to the profile. "
        "Default: the URL is in the environment, see `postgresUrlVariable`.",
        examples=["/run/secrets/mirrorflow-locks"],
    )
    postgres_url_variable: str = Field(
        default="MIRRORFLOW_LOCKS_URL",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Environment variable with the URL, where there is no `postgresUrlFile`.",
        examples=["LOCKS_URL"],
    )
