"""Watch a Dask cluster, so that lost workers and a lost scheduler are noticed: Dask itself waits for them."""

from __future__ import annotations

import math
import time
import warnings
from typing import Any, Self

POLL_SECONDS = 2.0
ANSWER_SECONDS = 6.0  # within which the scheduler must answer
GRACE_SECONDS = 20.0  # in which workers, or the connection to the scheduler, may come or come back


class Cluster:
    """The scheduler and the workers behind the executor of a Dask client."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.polled = -math.inf  # the first poll is at once, to know the workers before some are lost
        self.well = time.monotonic()  # when there was last an answer and a worker
        self.workers: set[str] = set()  # seen at the last poll
        self.had_workers = False
        self.answers = True  # whether work can be sent

    @classmethod
    def of(cls, executor: Any) -> Self | None:
        """The cluster of an executor; None if it is none of Dask."""
        is_dask = type(executor).__module__.partition(".")[0] == "distributed"
        client = getattr(executor, "_client", None) if is_dask else None
        return None if client is None else cls(client)

    def loss(self) -> str | None:
        """Why no more results can be expected; None if all is well or was asked a moment ago."""
        now = time.monotonic()
        if now - self.polled < POLL_SECONDS:
            return None
        self.polled = now
        try:
            if self.client.status == "closed":
                return "the connection to the Dask scheduler was lost"
            identity = self.client.sync(self.client.scheduler.identity, callback_timeout=ANSWER_SECONDS)
            names = set(identity["workers"])
        except Exception:  # of many kinds, when the connection breaks
            self.answers = False
            lost = time.monotonic() - self.well > GRACE_SECONDS
            return "the connection to the Dask scheduler was lost" if lost else None
        if self.had_workers and (gone := len(self.workers - names)):
            warnings.warn(f"{gone} of {len(self.workers)} Dask workers were lost", stacklevel=2)
        self.workers, self.answers = names, True
        if names:
            self.had_workers, self.well = True, now
        elif now - self.well > GRACE_SECONDS:
            return "all Dask workers were lost" if self.had_workers else "the Dask scheduler has no workers; start some"
        return None
