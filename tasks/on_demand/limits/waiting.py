"""Waiting for upstream where something is here already: a moment, and then what is here."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from registry_server.oci.errors import MirrorflowError
from tasks.cooldown import HeldBack
from tasks.run.errors import NotAdmitted

if TYPE_CHECKING:
    from concurrent.futures import Future

    from profiles.model.registry_entry import RegistryEntry
    from tasks.on_demand.limits.bulkhead import Bulkhead

T = TypeVar("T")

# Seconds for an upstream that is left alone: enough for who tries whether it is back, if it is.
_LEFT_ALONE = 0.02


class NotChecked(Exception):
    """Upstream did not say; the text is for the client's Warning."""


def in_time(future: Future[T], seconds: float, entry: RegistryEntry, bulkhead: Bulkhead) -> T:
    """What upstream said. Raises `NotChecked`; an upstream that takes longer is left alone for a while."""
    # The question may be one that somebody asked before that, and that still waits for its answer.
    breaker = bulkhead.breaker
    alone = breaker.reason(entry.name)
    try:
        return bulkhead.result(future, min(seconds, _LEFT_ALONE) if alone else seconds, entry)
    except TimeoutError:
        if alone:
            raise NotChecked(f"not checked: {alone}") from None
        reason = f"{entry.name} did not answer within {seconds:g} s"
        breaker.failed(entry.name, reason, began=breaker.clock() - seconds)
        raise NotChecked(f"not checked: {reason}") from None
    except HeldBack as error:
        raise NotChecked(str(error)) from error
    except NotAdmitted as error:
        raise NotChecked(f"refused: {error}") from error
    except MirrorflowError as error:
        raise NotChecked(f"not checked: {error}") from error
