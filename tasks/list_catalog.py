"""Step 1 of the flow: which repositories there are, and which of them the rules want."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from prefect import task
from prefect.runtime import task_run

from tasks.catalog import wanted_repositories
from tasks.errors import is_retryable
from tasks.steps import NO_REMEMBERING

if TYPE_CHECKING:
    from tasks.catalog import Catalog
    from tasks.run import MirrorRun

log = logging.getLogger("mirrorflow.list_catalog")


@task(name="list_catalog", task_run_name="catalog of {registry}", **NO_REMEMBERING)
def list_catalog(run: MirrorRun, registry: str) -> Catalog:
    """Which repositories of the upstream do the content rules want?"""
    catalog = wanted_repositories(run)
    tries_left = run.entry.max_retries - (task_run.run_count or 1) + 1
    if catalog.error is not None and is_retryable(catalog.error) and tries_left > 0:
        raise catalog.error  # the last try goes on with the repositories that rules name
    log.info("%s: %d repositories are wanted", registry, len(catalog.repositories))
    return catalog
