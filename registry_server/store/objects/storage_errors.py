"""The border where the errors of obstore become ours: one sentence that names the object, never a credential.

The texts of obstore hold the answer of the server, and that may hold parts of a signature. So only the status
and the code are taken out of them (S3 "Error Responses", Azure "Blob service error codes": `<Code>…</Code>`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from registry_server.store.errors import (
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreMissing,
    StoreUnreachable,
    StoreUnwritable,
)
from registry_server.store.objects.storage_driver import CREDENTIALS

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry_server.store.objects.storage_driver import StorageDriver

_STATUS: Final = re.compile(r"status code: (\d{3})[^:]*: ?(.*?)(?:\n\nDebug source|$)", re.DOTALL)
_OF_A_BATCH: Final = re.compile(r"Bulk delete request failed .*\(code: (\d{3})\)")
_CODE: Final = re.compile(r"<Code>(\w{1,64})</Code>")
_NO_OBJECT: Final = {"NoSuchKey", "NoSuchVersion", "BlobNotFound", "ResourceNotFound", "NoSuchUpload"}
_NO_BUCKET: Final = {"NoSuchBucket", "ContainerNotFound", "InvalidBucketName", "ContainerBeingDeleted"}
_NO_SPACE: Final = {"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "QuotaExceededException"}
_WRONG_REGION: Final = {
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
}
_OTHERS_BUSY: Final = {"ConditionalRequestConflict", "OperationAborted"}
_METADATA: Final = ("169.254.169.254", "metadata.google.internal", "169.254.170.2")
"""Where a machine asks for its role. Where there are no credentials, obstore ends up here."""
_NETWORK: Final = {
    "dns error": "its name cannot be resolved",
    "InvalidCertificate": "its certificate is not trusted",
    "certificate": "its certificate is not trusted",
    "TimedOut": "it did not answer in time",
    "tcp connect error": "nobody listens there",
    "BadScheme": "it wants TLS",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a failed request came to. `status` 0: no answer came; `code` is "" where none was told."""

    status: int
    code: str
    reason: str
    has_body: bool

    @classmethod
    def of(cls, error: BaseException) -> Answer:
        text = str(error)
        status = _STATUS.search(text)
        code = _CODE.search(text)
        if status is None and (one := _OF_A_BATCH.search(text)):
            return cls(int(one[1]), "", "", has_body=False)
        if status is None and "Received redirect without LOCATION" in text:
            return cls(301, "PermanentRedirect", "", has_body=False)
        if any(each in text for each in _METADATA):
            return cls(401, "no credentials", "", has_body=False)
        reason = next((plain for word, plain in _NETWORK.items() if word in text), "the connection broke off")
        return cls(
            int(status[1]) if status else 0,
            code[1] if code else "",
            reason,
            has_body=bool(status and status[2].strip()),
        )

    @property
    def is_no_object(self) -> bool:
        """A 404 that speaks of the object: one with another code does not, and an answer to HEAD has none."""
        return self.status == 404 and (self.code in _NO_OBJECT or not (self.code or self.has_body))

    @property
    def is_unknown(self) -> bool:
        """Nobody knows whether the request was carried out; so it may be tried again."""
        return self.status in (0, 408, 429) or self.status >= 500 or self.code in _OTHERS_BUSY


def store_error(error: BaseException, driver: StorageDriver, key: str) -> StoreError:
    """The most specific of our errors, saying where, what was answered, and what to do."""
    answer = Answer.of(error)
    where = f"{driver.where}/{key}" if key else driver.where
    told = f"{answer.code} {answer.status}".strip() if answer.status else answer.reason
    for applies, make in _KINDS:
        if applies(answer):
            return make(driver, where, told)
    return StoreError(f"{where}: the request was refused ({told}); check storage.storageDriver")


def _missing(driver: StorageDriver, _where: str, _told: str) -> StoreError:
    return StoreMissing(
        f"{driver.where}: there is no bucket {driver.bucket!r}; make it, or correct bucket and "
        "regionendpoint in storage.storageDriver"
    )


def _full(_driver: StorageDriver, where: str, told: str) -> StoreError:
    return StoreFull(f"{where}: the bucket takes no more ({told}); raise its quota, then run it again")


def _elsewhere(_driver: StorageDriver, where: str, told: str) -> StoreError:
    return StoreError(
        f"{where}: the bucket is in another region ({told}); set storage.storageDriver.region to its own"
    )


def _denied(driver: StorageDriver, where: str, told: str) -> StoreError:
    return StoreUnwritable(
        f"{where}: access denied ({told}); check {CREDENTIALS[driver.name]}, and what they may do in this "
        "bucket"
    )


def _unreachable(driver: StorageDriver, where: str, told: str) -> StoreError:
    return StoreUnreachable(
        f"{where}: {driver.endpoint or driver.name} does not answer as it should ({told}); check that it "
        "runs, and storage.storageDriver.regionendpoint"
    )


def _shorter(_driver: StorageDriver, where: str, _told: str) -> StoreError:
    return StoreDamaged(f"{where}: the object is shorter than expected; run `mirrorflow store scrub`")


_KINDS: Final[
    tuple[tuple[Callable[[Answer], bool], Callable[[StorageDriver, str, str], StoreError]], ...]
] = (
    (lambda answer: answer.code in _NO_BUCKET, _missing),
    (lambda answer: answer.code in _NO_SPACE or answer.status == 507, _full),
    (lambda answer: answer.code in _WRONG_REGION or answer.status == 301, _elsewhere),
    # versitygw answers a user that it does not know with 404 and a code of its own.
    (lambda answer: answer.status in (401, 403) or (answer.status == 404 and bool(answer.code)), _denied),
    (lambda answer: answer.status == 404, _missing),
    (lambda answer: answer.is_unknown, _unreachable),
    (lambda answer: answer.status == 416, _shorter),
)
