"""Plans that wait for a person."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

from .models import Approval, ApprovalDetails, Envelope

if TYPE_CHECKING:
    from .client import Clawgate


class Approvals:
    """Lists, shows and waits for plans that need an approval.

    It does not sign. An approver signs what the approver saw: with ``clawgate approvals approve``, or
    with a passkey on the plan's page. A statement that was signed elsewhere can be handed in.
    """

    def __init__(self, gateway: Clawgate) -> None:
        self._gateway = gateway

    def list(self, *, state: str | None = None) -> list[Approval]:
        """Plans that wait, those that wait longest first; or those in another state."""
        return self._gateway.list_approvals(state=state)["approvals"]

    def show(self, run_id: str) -> ApprovalDetails:
        """One plan, with everything that its approvers are to see."""
        return self._gateway.show_approval(run_id)

    def wait(self, *, job_id: str | None = None, timeout: float | None = None) -> Approval:
        """Waits until a plan waits: one of a job's, or anybody's. The gateway tells; nothing is
        polled. Raises ``Waited`` after ``timeout`` seconds."""
        for event, about in self._events(timeout):
            if event == "waiting" and job_id in (None, about["job_id"]):
                return cast(Approval, about)
        raise AssertionError("events end with an error")

    def wait_for_answer(self, run_id: str, *, timeout: float | None = None) -> ApprovalDetails:
        """Waits until a plan waits no longer, and tells where it stands then."""
        waits = False
        for event, about in self._events(timeout):
            waits = waits or (event == "waiting" and about["run_id"] == run_id)
            if event == "ready" and not waits or event == "ended" and about["run_id"] == run_id:
                return self.show(run_id)
        raise AssertionError("events end with an error")

    def submit(self, run_id: str, envelope: Envelope) -> ApprovalDetails:
        """Hands in an approver's signed yes or no. The signature counts, not who hands it in."""
        return self._gateway.submit_approval(run_id, {"envelope": envelope})

    def _events(self, timeout: float | None) -> Any:
        deadline = None if timeout is None else time.monotonic() + timeout
        return self._gateway.transport.events("/v1/approvals/watch", deadline=deadline)


