"""What `storage.storageDriver` means: the bucket, its server, and how it is spoken to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from registry_server.store.errors import StoreError
from registry_server.store.objects.object_storage import ObjectStorage
from registry_server.store.objects.storage_driver import StorageDriver

if TYPE_CHECKING:
    from registry_server.store.objects.storage_driver import DriverName


@pytest.mark.parametrize(
    ("driver", "where"),
    [
        pytest.param(StorageDriver("s3", "images"), "s3://images", id="s3"),
        pytest.param(StorageDriver("s3", "images", "/mirror/eu/"), "s3://images/mirror/eu", id="a prefix"),
        pytest.param(StorageDriver("gcs", "images", "mirror"), "gs://images/mirror", id="gcs"),
        pytest.param(StorageDriver("azure", "images", "//mirror"), "az://images/mirror", id="azure"),
    ],
)
def test_where_it_is(driver: StorageDriver, where: str) -> None:
    assert driver.where == where


@pytest.mark.parametrize(
    ("options", "endpoint"),
    [
        pytest.param({}, "", id="the cloud's own"),
        pytest.param({"regionendpoint": "https://s3.example.com"}, "https://s3.example.com", id="a URL"),
        pytest.param({"regionendpoint": "http://s3:9000/"}, "http://s3:9000", id="its scheme counts"),
        pytest.param({"regionendpoint": "s3:9000"}, "https://s3:9000", id="TLS, if it says nothing else"),
        pytest.param({"regionendpoint": "s3:9000", "secure": False}, "http://s3:9000", id="without TLS"),
        pytest.param({"regionendpoint": "[::1]:9000"}, "https://[::1]:9000", id="an IPv6 address"),
    ],
)
def test_its_server(options: dict[str, Any], endpoint: str) -> None:
    assert StorageDriver("s3", "images", **options).endpoint == endpoint


@pytest.mark.parametrize(
    ("options", "host"),
    [
        pytest.param({"region": "eu-west-1"}, "https://images.s3.eu-west-1.amazonaws.com/a", id="amazon"),
        pytest.param(
            {"region": "eu-west-1", "forcepathstyle": True},
            "https://s3.eu-west-1.amazonaws.com/images/a",
            id="amazon, by path",
        ),
        pytest.param({"regionendpoint": "http://s3:9000"}, "http://s3:9000/images/a", id="another server"),
        pytest.param(
            {"regionendpoint": "http://s3:9000", "forcepathstyle": False},
            "http://images.s3:9000/a",
            id="another server, by host",
        ),
    ],
)
def test_where_the_bucket_stands_in_its_url(
    options: dict[str, Any], host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    url = ObjectStorage(StorageDriver("s3", "images", **options)).url("a", 60)
    assert url is not None
    assert url.partition("?")[0] == host


@pytest.mark.parametrize(
    "endpoint",
    [
        pytest.param("ftp://s3", id="another scheme"),
        pytest.param("http://", id="no host"),
        pytest.param("http://s3:port", id="no port"),
        pytest.param("http://user:hidden@s3", id="a password"),
        pytest.param("http://s3?x=1", id="a query"),
        pytest.param("http://[::1", id="half an address"),
        pytest.param("http://s3 .example", id="a space"),
    ],
)
def test_what_is_no_address_of_a_server(endpoint: str) -> None:
    with pytest.raises(
        StoreError, match=r"storage\.storageDriver\.regionendpoint: .* write for example"
    ) as raised:
        ObjectStorage(StorageDriver("s3", "images", regionendpoint=endpoint))
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "environment", "told"),
    [
        pytest.param("gcs", {"GOOGLE_APPLICATION_CREDENTIALS": "/nothing"}, "GOOGLE_APPLICATION", id="gcs"),
        pytest.param("gcs", {"GOOGLE_SERVICE_ACCOUNT_KEY": '{"hidden":'}, "GOOGLE_APPLICATION", id="no JSON"),
        pytest.param("azure", {}, "AZURE_STORAGE_ACCOUNT_KEY", id="azure"),
        pytest.param(
            "azure",
            {"AZURE_STORAGE_ACCOUNT_NAME": "a", "AZURE_STORAGE_ACCOUNT_KEY": "hidden!"},
            "AZURE_STORAGE_ACCOUNT_KEY",
            id="no base64",
        ),
    ],
)
def test_what_nothing_can_be_made_of_is_one_clear_error(
    name: DriverName, environment: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(StoreError, match=f"cannot be set up .* {told}") as raised:
        ObjectStorage(StorageDriver(name, "images"))
    assert "hidden" not in str(raised.value)
    assert raised.value.__cause__ is None
