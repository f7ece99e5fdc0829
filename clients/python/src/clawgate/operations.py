"""Every operation of the operator API that answers at once."""

# Made by generate.py from docs/openapi.json; changes here are lost.

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from .models import (
    AcceptSettings,
    ApprovalDetails,
    Approvals,
    Approvers,
    AskPasskey,
    ChangeKeys,
    ChangedKeys,
    CloseJob,
    ClosedJob,
    Connection,
    ConsistencyProof,
    ContractDifference,
    ContractDocument,
    ContractVersions,
    Contracts,
    DiscardedRun,
    Document,
    ExportFormat,
    ExportedBundle,
    GatewayKeys,
    Health,
    Hold,
    InclusionProof,
    Introspection,
    InviteApprover,
    InvitedApprover,
    IssueElevatedToken,
    IssueToken,
    IssuedToken,
    JobDetails,
    JobId,
    JobRecords,
    JobRuns,
    JobState,
    JobTokens,
    Jobs,
    KeySet,
    LiftHold,
    LiftedHold,
    Log,
    NoticeChannels,
    NoticeTest,
    Observations,
    OpenJob,
    OpenedJob,
    PasskeyAnswer,
    PasskeyQuestion,
    PlaceHold,
    PlacedHold,
    PrepareKey,
    PreparedKey,
    Publication,
    PublishContract,
    PublishJob,
    PublishedContract,
    PublishedJob,
    Receipt,
    RemovePasskeys,
    RemovedPasskeys,
    RenewLease,
    RenewedLease,
    ReturnToState,
    ReturnedState,
    RevokeToken,
    RevokedToken,
    RollbackReason,
    RunId,
    Sha256,
    Snapshot,
    StoppedJob,
    SubmitApproval,
    Timestamp,
    TrustRoot,
    WatchedWorkspace,
    WatchedWorkspaces,
    WhichToken,
    WithdrawContract,
    WithdrawPublication,
    WithdrawnContract,
    WithdrawnPublication,
    WorkspaceId,
    WorkspaceSettings,
)
from .transport import quoted


class Operations(ABC):
    """One method for each operation, under its name in the document."""

    @abstractmethod
    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        body: object,
        *,
        as_text: bool = False,
    ) -> Any:
        """Makes one call."""

    def token_keys(self) -> KeySet:
        """The public key of scoped tokens."""
        answer: KeySet = self._call("GET", "/.well-known/jwks.json", None, None)
        return answer

    def alive(self) -> Health:
        """Whether the process answers."""
        answer: Health = self._call("GET", "/healthz", None, None)
        return answer

    def ready(self) -> Health:
        """Whether calls can be taken."""
        answer: Health = self._call("GET", "/readyz", None, None)
        return answer

    def list_approvals(self, *, state: str | None = None) -> Approvals:
        """Plans that wait for approval, or those in another state that is not an end."""
        answer: Approvals = self._call("GET", "/v1/approvals", {"state": state}, None)
        return answer

    def show_approval(self, run_id: RunId) -> ApprovalDetails:
        """One plan, with everything that its approvers are to see."""
        answer: ApprovalDetails = self._call("GET", f"/v1/approvals/{quoted(run_id)}", None, None)
        return answer

    def submit_approval(self, run_id: RunId, body: SubmitApproval) -> ApprovalDetails:
        """Takes an approver's signed yes or no; the signature counts, not who hands it in."""
        answer: ApprovalDetails = self._call("POST", f"/v1/approvals/{quoted(run_id)}", None, body)
        return answer

    def answer_with_passkey(self, run_id: RunId, body: PasskeyAnswer) -> ApprovalDetails:
        """Takes the statement with a passkey's signature."""
        answer: ApprovalDetails = self._call("POST", f"/v1/approvals/{quoted(run_id)}/passkey", None, body)
        return answer

    def ask_passkey(self, run_id: RunId, body: AskPasskey) -> PasskeyQuestion:
        """The statement that a passkey would sign, and the options for signing it."""
        answer: PasskeyQuestion = self._call("POST", f"/v1/approvals/{quoted(run_id)}/question", None, body)
        return answer

    def list_approvers(self) -> Approvers:
        """Who may approve, and with what."""
        answer: Approvers = self._call("GET", "/v1/approvers", None, None)
        return answer

    def invite_approver(self, body: InviteApprover) -> InvitedApprover:
        """Makes a one-time link for a passkey; it is in this answer and nowhere else."""
        answer: InvitedApprover = self._call("POST", "/v1/approvers/invite", None, body)
        return answer

    def remove_passkeys(self, body: RemovePasskeys) -> RemovedPasskeys:
        """Takes a person's passkeys away, or one of them."""
        answer: RemovedPasskeys = self._call("POST", "/v1/approvers/remove", None, body)
        return answer

    def show_connection(self) -> Connection:
        """How an agent reaches the gateway."""
        answer: Connection = self._call("GET", "/v1/connection", None, None)
        return answer

    def list_contracts(self) -> Contracts:
        """Every contract's name with its latest version."""
        answer: Contracts = self._call("GET", "/v1/contracts", None, None)
        return answer

    def publish_contract(self, body: PublishContract) -> PublishedContract:
        """Publishes what an author signed."""
        answer: PublishedContract = self._call("POST", "/v1/contracts", None, body)
        return answer

    def list_contract_versions(self, name: str) -> ContractVersions:
        """Every version of a name, oldest first."""
        answer: ContractVersions = self._call("GET", f"/v1/contracts/by-name/{quoted(name)}", None, None)
        return answer

    def compare_contracts(self, *, new: Sha256, old: Sha256) -> ContractDifference:
        """What one version allows that another does not."""
        answer: ContractDifference = self._call("GET", "/v1/contracts/diff", {"new": new, "old": old}, None)
        return answer

    def show_contract(self, hash: Sha256) -> ContractDocument:
        """One version, with the document as its author signed it."""
        answer: ContractDocument = self._call("GET", f"/v1/contracts/{quoted(hash)}", None, None)
        return answer

    def withdraw_contract(self, hash: Sha256, body: WithdrawContract) -> WithdrawnContract:
        """Withdraws a version: no new job or token is based on it."""
        answer: WithdrawnContract = self._call("POST", f"/v1/contracts/{quoted(hash)}/withdraw", None, body)
        return answer

    def list_holds(self, *, before: int | None = None, job: JobId | None = None, lifted: bool | None = None) -> list[Hold]:
        """Holds, newest first: those that stand, or those that were lifted too."""
        answer: list[Hold] = self._call("GET", "/v1/holds", {"before": before, "job": job, "lifted": lifted}, None)
        return answer

    def list_jobs(self, *, before: JobId | None = None, limit: int | None = None, state: JobState | None = None) -> Jobs:
        """Jobs, newest first."""
        answer: Jobs = self._call("GET", "/v1/jobs", {"before": before, "limit": limit, "state": state}, None)
        return answer

    def open_job(self, body: OpenJob) -> OpenedJob:
        """Opens a job under a contract; give either its name or a version's hash."""
        answer: OpenedJob = self._call("POST", "/v1/jobs", None, body)
        return answer

    def show_job(self, id: JobId) -> JobDetails:
        """One job."""
        answer: JobDetails = self._call("GET", f"/v1/jobs/{quoted(id)}", None, None)
        return answer

    def download_bundle(self, id: JobId) -> Document:
        """The sealed bundle, byte for byte."""
        answer: Document = self._call("GET", f"/v1/jobs/{quoted(id)}/bundle", None, None)
        return answer

    def export_bundle(self, id: JobId, *, as_: ExportFormat, part: int | None = None) -> ExportedBundle:
        """The sealed bundle in another format, signed by the gateway's close key."""
        answer: ExportedBundle = self._call("GET", f"/v1/jobs/{quoted(id)}/bundle/export", {"as": as_, "part": part}, None)
        return answer

    def close_job(self, id: JobId, body: CloseJob) -> ClosedJob:
        """Closes a job and seals its bundle."""
        answer: ClosedJob = self._call("POST", f"/v1/jobs/{quoted(id)}/close", None, body)
        return answer

    def hold_job(self, id: JobId, body: PlaceHold) -> PlacedHold:
        """Holds a job: nothing of it is removed while the hold stands."""
        answer: PlacedHold = self._call("POST", f"/v1/jobs/{quoted(id)}/holds", None, body)
        return answer

    def lift_hold(self, id: JobId, body: LiftHold) -> LiftedHold:
        """Lifts one hold of a job."""
        answer: LiftedHold = self._call("POST", f"/v1/jobs/{quoted(id)}/holds/lift", None, body)
        return answer

    def renew_lease(self, id: JobId, body: RenewLease) -> RenewedLease:
        """Renews a job's lease: whoever opened it is still there."""
        answer: RenewedLease = self._call("POST", f"/v1/jobs/{quoted(id)}/lease", None, body)
        return answer

    def list_records(self, id: JobId, *, after: int | None = None, limit: int | None = None) -> JobRecords:
        """A page of a job's records, in their order."""
        answer: JobRecords = self._call("GET", f"/v1/jobs/{quoted(id)}/records", {"after": after, "limit": limit}, None)
        return answer

    def list_runs(self, id: JobId) -> JobRuns:
        """A job's runs, oldest first."""
        answer: JobRuns = self._call("GET", f"/v1/jobs/{quoted(id)}/runs", None, None)
        return answer

    def list_tokens(self, id: JobId) -> JobTokens:
        """A job's tokens, oldest first; never their text."""
        answer: JobTokens = self._call("GET", f"/v1/jobs/{quoted(id)}/tokens", None, None)
        return answer

    def list_keys(self, *, since: Timestamp | None = None) -> GatewayKeys:
        """Every key of the gateway's, and the key sets of the log."""
        answer: GatewayKeys = self._call("GET", "/v1/keys", {"since": since}, None)
        return answer

    def change_keys(self, body: ChangeKeys) -> ChangedKeys:
        """Takes the key set that follows, signed by the root of the keys."""
        answer: ChangedKeys = self._call("POST", "/v1/keys", None, body)
        return answer

    def prepare_key(self, body: PrepareKey) -> PreparedKey:
        """Makes the next key of a role; a key set puts it into use."""
        answer: PreparedKey = self._call("POST", "/v1/keys/prepare", None, body)
        return answer

    def show_log(self) -> Log:
        """Size, root, newest checkpoint and last records of the log, and how publishing stands."""
        answer: Log = self._call("GET", "/v1/log", None, None)
        return answer

    def show_checkpoint(self) -> str:
        """The log as it is now: a signed note."""
        answer: str = self._call("GET", "/v1/log/checkpoint", None, None, as_text=True)
        return answer

    def prove_consistency(self, *, from_: int, to: int | None = None) -> ConsistencyProof:
        """The proof that the log begins with what it was before."""
        answer: ConsistencyProof = self._call("GET", "/v1/log/consistency", {"from": from_, "to": to}, None)
        return answer

    def prove_inclusion(self, *, index: int | None = None, job: JobId | None = None, receipt: str | None = None, seq: int | None = None) -> InclusionProof:
        """The proof that one record is in the log; name it by index, by job and number, or by
        receipt."""
        answer: InclusionProof = self._call("GET", "/v1/log/inclusion", {"index": index, "job": job, "receipt": receipt, "seq": seq}, None)
        return answer

    def list_notices(self) -> NoticeChannels:
        """Every channel for notices, with its latest."""
        answer: NoticeChannels = self._call("GET", "/v1/notices", None, None)
        return answer

    def test_notice(self, name: str) -> NoticeTest:
        """Sends a message that says that it is a test."""
        answer: NoticeTest = self._call("POST", f"/v1/notices/{quoted(name)}/test", None, None)
        return answer

    def list_observations(self, *, before: int | None = None, limit: int | None = None, workspace: WorkspaceId | None = None) -> Observations:
        """What was seen outside the gateway, newest first."""
        answer: Observations = self._call("GET", "/v1/observations", {"before": before, "limit": limit, "workspace": workspace}, None)
        return answer

    def list_publications(self) -> list[Publication]:
        """The latest publications, without their links."""
        answer: list[Publication] = self._call("GET", "/v1/publications", None, None)
        return answer

    def publish_job(self, body: PublishJob) -> PublishedJob:
        """Makes a link to a sealed job; it is in this answer and nowhere else."""
        answer: PublishedJob = self._call("POST", "/v1/publications", None, body)
        return answer

    def withdraw_publication(self, body: WithdrawPublication) -> WithdrawnPublication:
        """Ends a publication."""
        answer: WithdrawnPublication = self._call("POST", "/v1/publications/withdraw", None, body)
        return answer

    def show_receipt(self, id: str) -> Receipt:
        """One receipt, of whatever job."""
        answer: Receipt = self._call("GET", f"/v1/receipts/{quoted(id)}", None, None)
        return answer

    def stop_job(self, id: JobId, body: RollbackReason) -> StoppedJob:
        """Stops a job: its tokens, its runs, and then the job itself."""
        answer: StoppedJob = self._call("POST", f"/v1/rollback/job/{quoted(id)}", None, body)
        return answer

    def discard_run(self, run_id: RunId, body: RollbackReason) -> DiscardedRun:
        """Discards a plan."""
        answer: DiscardedRun = self._call("POST", f"/v1/rollback/run/{quoted(run_id)}", None, body)
        return answer

    def return_to_state(self, body: ReturnToState) -> ReturnedState:
        """Returns a workspace to an earlier state version."""
        answer: ReturnedState = self._call("POST", "/v1/rollback/state", None, body)
        return answer

    def issue_token(self, body: IssueToken) -> IssuedToken:
        """Issues a scoped token; its text is in this answer and nowhere else."""
        answer: IssuedToken = self._call("POST", "/v1/tokens", None, body)
        return answer

    def issue_elevated_token(self, body: IssueElevatedToken) -> IssuedToken:
        """Issues a token that carries one approver's yes to one plan."""
        answer: IssuedToken = self._call("POST", "/v1/tokens/elevated", None, body)
        return answer

    def introspect_token(self, body: WhichToken) -> Introspection:
        """Tells about a token (RFC 7662), by its text or its hash."""
        answer: Introspection = self._call("POST", "/v1/tokens/introspect", None, body)
        return answer

    def revoke_token(self, body: RevokeToken) -> RevokedToken:
        """Revokes a token (RFC 7009), by its text or its hash."""
        answer: RevokedToken = self._call("POST", "/v1/tokens/revoke", None, body)
        return answer

    def watch_jobs(self, *, after: int | None = None, job: JobId | None = None, wait: int | None = None) -> Snapshot:
        """What jobs are doing now; waits for a change after a revision."""
        answer: Snapshot = self._call("GET", "/v1/top", {"after": after, "job": job, "wait": wait}, None)
        return answer

    def show_trust_root(self) -> TrustRoot:
        """What a verifier is given besides the bundle."""
        answer: TrustRoot = self._call("GET", "/v1/trust", None, None)
        return answer

    def list_watched(self) -> WatchedWorkspaces:
        """The governed workspaces, and how their settings stand."""
        answer: WatchedWorkspaces = self._call("GET", "/v1/watch", None, None)
        return answer

    def show_watched(self, id: WorkspaceId) -> WatchedWorkspace:
        """One workspace: what its settings should be, what they are, what was seen there."""
        answer: WatchedWorkspace = self._call("GET", f"/v1/watch/{quoted(id)}", None, None)
        return answer

    def accept_settings(self, id: WorkspaceId, body: AcceptSettings) -> WorkspaceSettings:
        """Makes the settings that were seen last what they should be."""
        answer: WorkspaceSettings = self._call("POST", f"/v1/watch/{quoted(id)}/accept", None, body)
        return answer
