//! Why a check came out as it did: one table of stable codes, from which the report, the
//! command line and the documentation are made.
//!
//! To add a code: add its line to the table. Nothing else lists them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! codes {
    ($($variant:ident $text:literal $title:literal $explanation:literal)*) => {
        /// A stable reason code of the verifier.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $title] $variant,)*
        }

        impl Code {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable text, `SCREAMING_SNAKE_CASE`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// A few words for people.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// What it means and what to do about it.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$variant => $explanation,)* }
            }
        }
    };
}

codes! {
    Ok "OK" "The check passed"
        "Everything that the check looks at is as it must be."
    NotRun "NOT_RUN" "The check could not run"
        "An earlier check failed, and this one would have had to build on it. It counts as not proven, never as passed. Look at the first failure."
    MoreFindings "MORE_FINDINGS" "There is more of the same"
        "The check found more than a report shows. The first findings are listed above this line."

    TrustRootUnreadable "TRUST_ROOT_UNREADABLE" "The trust root cannot be read"
        "The trust root is not a document of the kind clawgate.trust/1 in strict JSON. Without it nothing can be believed. Get trust.json from the operator by another way than the bundle itself."
    FileTooLarge "FILE_TOO_LARGE" "The file is larger than the verifier reads"
        "The bundle exceeds the limits in bytes or in entries that the verifier sets itself, so that a hostile file cannot exhaust the machine. Nothing about it is shown or refuted."
    FileNotJson "FILE_NOT_JSON" "The file is not strict JSON"
        "Duplicate members, trailing data, fractions, integers beyond 2^53-1, nesting deeper than 64 levels and malformed text are refused, because two readers could understand them differently."
    FileShape "FILE_SHAPE" "The file is not a proof bundle"
        "A member is missing, unknown or of the wrong type. Bundles of another version need another version of the verifier."

    SignatureInvalid "SIGNATURE_INVALID" "A signature does not verify"
        "The payload was changed after it was signed, or it was signed by another key than the envelope names."
    EnvelopeMismatch "ENVELOPE_MISMATCH" "An envelope contradicts its payload"
        "Type, version, signer or time stand outside the signature; they differ from what the signed payload says, so somebody changed them."
    KeyUnknown "KEY_UNKNOWN" "No trusted key for this role"
        "The signature is arithmetically right, but nothing that is believed lists the key for what it signed here: not the trust root, and of a gateway's key not the key sets in its log. Anybody can make keys. A key that is newer than the trust root needs a newer one: get it by the way on which the first one came."
    KeyNotValidThen "KEY_NOT_VALID_THEN" "The key did not count then and there"
        "The trust root or a key set in the log knows the key, but at the moment of the signature, at its place in the log, or at the moment given by --at it was not in use yet, had been replaced and its time was over, or was revoked."

    KeySetInvalid "KEY_SET_INVALID" "A key set says what it may not say"
        "Key sets are signed by the root of the gateway's keys and by no other, list one key for each role, and say of each key what becomes of it. One of them does not. Nothing that the keys signed can be judged by it."
    KeySetChain "KEY_SET_CHAIN" "The key sets do not follow each other"
        "Key sets are numbered 1, 2, 3, each names the one before by its hash, and those that the trust root has seen are the same. A number is missing or there twice, or the chain was forked. Keep the file: two key sets of one number by one root prove that it was used twice."
    KeySetMissing "KEY_SET_MISSING" "A key set was left out"
        "The trust root or the closing word names a key set that the log has under this checkpoint, and the bundle does not have it. It may say that a key was revoked."

    AuthorUnknown "AUTHOR_UNKNOWN" "The contract is not by a trusted author"
        "The contract's signer is not among the authors of the trust root."
    ContractInvalid "CONTRACT_INVALID" "The contract does not load"
        "The signed contract has a member that is missing, unknown or out of range. A gateway would not have published it."
    PolicyHashMismatch "POLICY_HASH_MISMATCH" "Another contract is named here"
        "Contract, tokens, records, receipts, approvals and the closing word must all name the hash of the one contract in the bundle."
    JobMismatch "JOB_MISMATCH" "Another job is named here"
        "A record, token, receipt or approval belongs to another job, or the description of the job contradicts its first record."

    SequenceGap "SEQUENCE_GAP" "The numbering of the records has a gap"
        "Records count 1, 2, 3 without gaps. A gap or a repetition means that a record was left out, added or moved."
    RecordOrder "RECORD_ORDER" "A record stands where it cannot stand"
        "A job begins with exactly one job-open record and ends with exactly one job-close record."
    CountMismatch "COUNT_MISMATCH" "The number of records is not the one that was closed"
        "The closing record and the closing envelope state how many records the job has. Another number means that records were dropped or added."
    TimeBackwards "TIME_BACKWARDS" "Time runs backwards"
        "A later entry carries an earlier time, or a time stands outside the span of what it belongs to."

    OutcomeWithoutIntent "OUTCOME_WITHOUT_INTENT" "An outcome without an intent"
        "Every call is recorded before it is made. An outcome that answers no earlier intent means that the intent was left out."
    IntentWithoutOutcome "INTENT_WITHOUT_OUTCOME" "An intent without an outcome"
        "A closed job has an outcome for every intent, if only one that says that it is unknown."
    ToolCallsStray "TOOL_CALLS_STRAY" "An outcome names tools that no model can have asked for in it"
        "Only the answer of a model asks for tools, and an outcome names 64 of them at most."
    EgressStray "EGRESS_STRAY" "An outcome says that something was sent elsewhere, and its call was not allowed to"
        "Only a connection through the egress proxy says what it sent, and to which of the addresses that were decided about."
    CauseStray "CAUSE_STRAY" "A call names a model call that cannot have asked for it"
        "A call that a tool made may name an earlier model call of the job by its receipt; matched by arguments, that call's outcome names the tool with the same arguments."
    OutcomeTwice "OUTCOME_TWICE" "Two outcomes for one call"
        "A call ends once."
    OutcomeUnknown "OUTCOME_UNKNOWN" "Nobody knows how a call ended"
        "The gateway stopped between the call and its answer and said so. What the call did is not proven by this bundle; look at the run in Terraform Cloud."
    CallerUnknown "CALLER_UNKNOWN" "A call by somebody who is not in the bundle"
        "The caller of a record is no token of the job, not the job's agent, or claims to be the gateway in a lane that is not the gateway's own."

    TokenScopeHash "TOKEN_SCOPE_HASH" "A token's scope hash does not fit its claims"
        "The hash over what a token grants was not computed from these claims."
    TokenLifetime "TOKEN_LIFETIME" "A token lives longer than the contract allows"
        "The time between a token's issue and its end is not positive, or exceeds cst_constraints.max_ttl_seconds of the contract."
    TokenDuplicate "TOKEN_DUPLICATE" "A token is listed twice"
        "Each token of the job is listed once, by its own hash and its own id."
    TokenMisused "TOKEN_MISUSED" "A token was used where it did not count"
        "A call was made with a token before it was minted, after it ended or was revoked, or by another holder than the one it was bound to."
    RevocationMismatch "REVOCATION_MISMATCH" "Revocations and tokens do not agree"
        "A token that is marked as revoked needs a revocation record of the job, and the reverse."

    CheckpointInvalid "CHECKPOINT_INVALID" "The checkpoint is not the log's"
        "The checkpoint is malformed, names another log than the trust root does, or is not signed by the log's key."
    WitnessesMissing "WITNESSES_MISSING" "Too few witnesses have seen the checkpoint"
        "The trust root asks for more witnesses' cosignatures than the checkpoint has. The log may be as it should, but nobody else vouches that it was shown to all alike. Compare it with a checkpoint of your own (--since)."
    ContractWitnessesMissing "CONTRACT_WITNESSES_MISSING" "Fewer witnesses have seen the checkpoint than the contract asks for"
        "The contract's audit.witnesses says how many witnesses must have cosigned the checkpoint, and which. A gateway seals no bundle with fewer, so lines were taken away or the gateway broke the contract. Where the trust root does not list the witnesses that the contract names, their word cannot be checked, and the bundle is not proven."
    AddedInvalid "ADDED_INVALID" "What was added after sealing does not belong to this log"
        "The member added holds a later checkpoint with more cosignatures. It is signed by the log's key, and its proof must lead to it from the bundle's own checkpoint. Take the member out, or fetch the bundle anew."
    TimestampInvalid "TIMESTAMP_INVALID" "A timestamp does not hold"
        "A timestamp (RFC 3161) is over SHA-256 of the signed text of the checkpoint beside it. It is malformed, of something else, not signed by the certificate that it names, by one that is not for timestamps or was not valid then, or its time does not fit the job's."
    TimestampUntrusted "TIMESTAMP_UNTRUSTED" "The trust root does not name the timestamp's authority"
        "The certificate that signed the timestamp does not lead to one in the trust root's tsa. It may be genuine; take a trust root that names the authority to check it."
    TimestampMissing "TIMESTAMP_MISSING" "The contract asks for a timestamp, and there is none"
        "The contract's audit.timestamps is true. A gateway seals no bundle without one, so it was taken away or the gateway broke the contract."
    CheckpointForked "CHECKPOINT_FORKED" "The log was forked"
        "The log's key signed two different roots for one size: this bundle's checkpoint and the one that you have kept cannot both be of one log. Keep both files; together they prove it to anybody."
    ConsistencyInvalid "CONSISTENCY_INVALID" "The proof does not lead from the kept checkpoint to this one"
        "For exactly these two sizes, the hashes do not lead from the one signed root to the other. Either the proof was damaged, or the log was rewritten in between. Ask for another proof (`clawgate log prove --from … --to …`); a log that was not rewritten always has one."
    ConsistencyMissing "CONSISTENCY_MISSING" "Nothing proves that the log continues the kept checkpoint"
        "A proof for exactly these two sizes is needed: ask the operator for `clawgate log prove --from … --to … -o consistency.json`, and give it with --consistency."
    SinceUnreadable "SINCE_UNREADABLE" "The kept checkpoint cannot be used"
        "The file given with --since is neither a checkpoint nor a bundle with one, or its checkpoint is not signed by the log's key of the trust root."
    InclusionMissing "INCLUSION_MISSING" "Records and inclusion proofs do not match"
        "There is exactly one inclusion proof for each record, in the same order, each at a later place in the log than the one before."
    InclusionInvalid "INCLUSION_INVALID" "A record is not in the log"
        "The record, hashed along its path, does not lead to the root that the checkpoint signs. The record or its proof was changed."
    CloseMismatch "CLOSE_MISMATCH" "The closing word does not fit the records"
        "The closing envelope names the job, the contract, its signer and the first and last leaf; one of them is not what the bundle holds."
    EvidenceMismatch "EVIDENCE_MISMATCH" "The evidence was changed after it was sealed"
        "The hash over everything but the two seals is not the one that the seals carry."
    PublicHalfMismatch "PUBLIC_HALF_MISMATCH" "The public half does not fit the records"
        "The public half is signed by the job's own key, carries the job's event chain exactly as the records make it, and ties itself to the rest of the bundle."

    ReceiptMalformed "RECEIPT_MALFORMED" "A receipt is malformed"
        "A member of the receipt is missing, unknown or has a value that it cannot have."
    ReceiptBinding "RECEIPT_BINDING" "A receipt is bound to another call"
        "A receipt names the job, the event of its intent, the contract and the token's scope. One of them is not that of a call of this job."
    ReceiptContent "RECEIPT_CONTENT" "A receipt contradicts the records"
        "The hashes, times or counts that were signed in the receipt are not those of the intent and the outcome that it is about."
    ReceiptMissing "RECEIPT_MISSING" "A call has no receipt"
        "Every outcome that is known names its receipt, and the bundle holds it."
    ReceiptStray "RECEIPT_STRAY" "A receipt that no outcome names"
        "Each receipt is named by exactly one outcome, with the hash of its payload."

    ApprovalMismatch "APPROVAL_MISMATCH" "An approval is not for what the run is"
        "The signed statement names organization, workspace, run, configuration, plan, contract, job and number of changes. One of them differs from the run in the bundle, so the approval is for something else."
    ApproverUnknown "APPROVER_UNKNOWN" "The approver is not enrolled"
        "The statement is not signed by the key that the trust root lists for this approver."
    PasskeyMalformed "PASSKEY_MALFORMED" "A passkey's signature is not one"
        "What the authenticator or the browser says is not in the form of WebAuthn, read strictly, or it was made for an enrolment."
    PasskeyWrongChallenge "PASSKEY_WRONG_CHALLENGE" "A passkey signed something else"
        "The challenge that the browser names is not the hash of the statement beside it: the statement was altered, or the signature belongs to another."
    PasskeyWrongSite "PASSKEY_WRONG_SITE" "A passkey was used on another site"
        "The relying party or the page's origin is not the one that the trust root names for this passkey, or the page stood in a frame. Somebody may have been made to sign on a page that was not the gateway's."
    PasskeyNotVerified "PASSKEY_NOT_VERIFIED" "The authenticator did not verify the person"
        "The authenticator's flags do not say that somebody was there and was recognised by PIN, fingerprint or the like. Whoever held the device could have signed."
    PasskeyCounter "PASSKEY_COUNTER" "A passkey's counter went back"
        "Two statements by one passkey have counters that do not rise. Its key exists twice, or the order of the records is not that of the signatures."
    ApproverNotAllowed "APPROVER_NOT_ALLOWED" "The approver is not allowed by the contract"
        "The contract's permissions.apply.approvers does not list the approver."
    ApproverOpenedJob "APPROVER_OPENED_JOB" "Whoever opened the job approved it"
        "The opening record names the e-mail address of whoever opened the job, and the contract does not say permissions.apply.opener_may_approve: neither that address nor a key that the trust root lists for it may approve."
    ApprovalExpired "APPROVAL_EXPIRED" "An approval had expired, or lasted too long"
        "The approval was used after its end, or its end is later than the contract's approval_ttl_seconds after it was recorded."
    ApprovalReused "APPROVAL_REUSED" "An approval was used twice"
        "Each statement has its own nonce, and an approval serves one apply."
    ApprovalUnrecorded "APPROVAL_UNRECORDED" "Approvals and their records do not match"
        "Each signed statement has exactly one approval record that names its hash, and each approval record its statement."
    ApplyNotAllowed "APPLY_NOT_ALLOWED" "The contract does not allow applies"
        "A run was applied although permissions.apply.allowed is not true."
    ApplyNotApproved "APPLY_NOT_APPROVED" "An apply without enough approvals before it"
        "Before the gateway applies, as many distinct approvers as the contract asks for must have approved exactly this plan, and their approvals must stand earlier in the records."
    ApplyAfterDenial "APPLY_AFTER_DENIAL" "An apply although an approver had denied it"
        "A denial ends a run; it cannot be applied afterwards."
    ApplyUnrecorded "APPLY_UNRECORDED" "A run was applied, but no record says that the gateway did it"
        "The run's status or its new state version says that it was applied. Somebody did that past the gateway, or the record was left out."

    RunMismatch "RUN_MISMATCH" "Runs and records do not agree"
        "Each run is listed once and named by a record, and each run that a call concerns is listed."
    WorkspaceOutside "WORKSPACE_OUTSIDE" "A run outside the contract's workspaces"
        "The run's workspace is not among permissions.workspaces of the contract."

    DecisionMismatch "DECISION_MISMATCH" "A decision is not what the contract says"
        "Deciding the recorded input again under the contract gives another verdict or another reason code than the record has."
    DecisionNotAllowed "DECISION_NOT_ALLOWED" "A call was made that its own decision did not allow"
        "An intent needs the verdict allow; only the wish to apply, of which nothing but an approval can come, may also have approve. A refusal needs deny or approve."
    DecisionUnreadable "DECISION_UNREADABLE" "A recorded decision cannot be made again"
        "This version of the verifier cannot read the recorded input, so it cannot say whether the decision was right."

    AfterTheMoment "AFTER_THE_MOMENT" "The bundle is younger than the moment asked about"
        "With --at, everything in the bundle must have happened by that moment."
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that is no code of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown code `{0}`")]
pub struct UnknownCode(pub String);

impl FromStr for Code {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.as_str() == text)
            .ok_or_else(|| UnknownCode(text.chars().take(64).collect()))
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_reads_back_and_speaks_in_sentences() {
        let mut texts = std::collections::BTreeSet::new();
        for code in Code::ALL.iter().copied() {
            assert!(texts.insert(code.as_str()), "{code} twice");
            assert_eq!(code.as_str().parse(), Ok(code));
            assert!(code.explanation().ends_with('.') && !code.title().ends_with('.'));
            assert_eq!(
                code.as_str().replace('_', ""),
                format!("{code:?}").to_ascii_uppercase(),
                "the name of the variant is the name of the code"
            );
        }
        assert!("NO_SUCH_CODE".parse::<Code>().is_err());
    }
}
