"""Which bucket a store is in, and the obstore clients that reach it.

The names are zot's (`storage.storageDriver`), which are those of CNCF distribution. Credentials come from
where the clouds' own libraries look: environment variables, the role of the machine, workload identity.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

from registry_server.store.errors import StoreError

if TYPE_CHECKING:
    from obstore.store import (
        AzureConfig,
        AzureStore,
        ClientConfig,
        GCSConfig,
        GCSStore,
        RetryConfig,
        S3Config,
        S3Store,
    )

    Client = AzureStore | GCSStore | S3Store

DriverName = Literal["s3", "gcs", "azure"]
SCHEMES: Final = {"s3": "s3", "gcs": "gs", "azure": "az"}
CREDENTIALS: Final = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the role of the machine",
    "gcs": "GOOGLE_APPLICATION_CREDENTIALS, or the service account of the machine",
    "azure": "AZURE_STORAGE_ACCOUNT_KEY or AZURE_CLIENT_ID, or the managed identity of the machine",
}
"""Where the credentials of each kind come from, for messages."""

_HOST: Final = re.compile(r"[a-zA-Z0-9._-]+|[0-9a-fA-F:.]+")
_HTTP: Final = ("http", "https")


@dataclass(frozen=True, slots=True)
class RetryLimits:
    """Times in seconds. A request that fails is repeated `times` times within `seconds` at most.

    `connect` and `read`: how long a connection may take, and how long it may be silent.
    """

    times: int = 8
    seconds: float = 60.0
    first_pause: float = 0.1
    longest_pause: float = 5.0
    connect: float = 5.0
    read: float = 60.0


@dataclass(frozen=True, slots=True)
class StorageDriver:
    """A bucket (`azure`: a container) and the part of it that the store has.

    `regionendpoint`: another server than the cloud's own, with or without `https://`. `secure`: use TLS for
    one without. `forcepathstyle`: the bucket stands in the path and not in the host name (default: where
    `regionendpoint` is set). `skipverify`: accept any certificate. `accountname`: of `azure`.
    """

    name: DriverName
    bucket: str
    rootdirectory: str = ""
    region: str = ""
    regionendpoint: str = ""
    forcepathstyle: bool | None = None
    secure: bool = True
    skipverify: bool = False
    accountname: str = ""
    limits: RetryLimits = field(default_factory=RetryLimits)

    @property
    def where(self) -> str:
        """`s3://bucket/prefix`, for messages."""
        return f"{SCHEMES[self.name]}://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")

    @property
    def prefix(self) -> str:
        """What all keys begin with; "" for none."""
        return "/".join(part for part in self.rootdirectory.split("/") if part)

    @property
    def endpoint(self) -> str:
        """A URL without a slash at its end; "" for the cloud's own. Raises `StoreError`."""
        text = self.regionendpoint.strip()
        if not text:
            return ""
        if "://" not in text:
            text = f"{'https' if self.secure else 'http'}://{text}"
        _check_endpoint(text)
        return text.rstrip("/")

    def client(self, *, retrying: bool) -> Client:
        """`retrying`: repeats by itself what failed. Connects when it is first used. Raises `StoreError`."""
        from obstore.exceptions import BaseError
        from obstore.store import AzureStore, GCSStore, S3Store

        options, retries = self._client_options(), self._retries(retrying=retrying)
        prefix = self.prefix or None
        try:
            match self.name:
                case "s3":
                    return S3Store(
                        self.bucket,
                        prefix=prefix,
                        config=self._s3(),
                        client_options=options,
                        retry_config=retries,
                    )
                case "gcs":
                    return GCSStore(
                        self.bucket,
                        prefix=prefix,
                        config=self._gcs(),
                        client_options=options,
                        retry_config=retries,
                    )
                case "azure":
                    return AzureStore(
                        self.bucket,
                        prefix=prefix,
                        config=self._azure(),
                        client_options=options,
                        retry_config=retries,
                    )
        except (BaseError, ValueError, OSError) as error:  # its text may hold a key out of the environment
            raise StoreError(
                f"{self.where}: the storage driver cannot be set up ({type(error).__name__}); check "
                f"storage.storageDriver, and {CREDENTIALS[self.name]}"
            ) from None

    def _s3(self) -> S3Config:
        endpoint = self.endpoint
        by_path = bool(endpoint) if self.forcepathstyle is None else self.forcepathstyle
        config: S3Config = {"virtual_hosted_style_request": not by_path}
        if self.region:
            config["region"] = self.region
        if endpoint:
            scheme, _, host = endpoint.partition("://")
            config["endpoint"] = endpoint if by_path else f"{scheme}://{self.bucket}.{host}"
        return config

    def _gcs(self) -> GCSConfig:
        return {"base_url": self.endpoint} if self.regionendpoint else {}

    def _azure(self) -> AzureConfig:
        config: AzureConfig = {"endpoint": self.endpoint} if self.regionendpoint else {}
        if self.accountname:
            config["account_name"] = self.accountname
        return config

    def _client_options(self) -> ClientConfig:
        limits = self.limits
        return {
            "allow_http": True,  # the endpoint says whether it is used
            "allow_invalid_certificates": self.skipverify,
            "connect_timeout": timedelta(seconds=limits.connect),
            "read_timeout": timedelta(seconds=limits.read),
            # Of a whole answer: a slow client may take hours for a layer.
            "timeout": timedelta(days=1),
            "user_agent": "mirrorflow",
        }

    def _retries(self, *, retrying: bool) -> RetryConfig:
        limits = self.limits
        return {
            "max_retries": limits.times if retrying else 0,
            "retry_timeout": timedelta(seconds=limits.seconds),
            "backoff": {
                "init_backoff": timedelta(seconds=limits.first_pause),
                "max_backoff": timedelta(seconds=limits.longest_pause),
                "base": 2,
            },
        }


def _check_endpoint(text: str) -> None:
    """obstore ends the process' thread with a panic for what is no URL."""
    try:
        found = urlsplit(text)
        port = found.port
    except ValueError:
        found, port = None, None
    if (
        found is None
        or found.scheme not in _HTTP
        or not _HOST.fullmatch(found.hostname or "")
        or port == 0
        or found.username is not None
        or found.query
        or found.fragment
    ):
        shown = text.rpartition("@")[2]
        raise StoreError(
            f"storage.storageDriver.regionendpoint: {shown!r} is no address of a server; write for example "
            "'https://s3.example.com' or '10.0.0.7:9000', without a user and a password"
        )
