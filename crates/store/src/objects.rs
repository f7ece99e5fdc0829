//! The id index: to which workspace an upstream object really belongs.

use async_trait::async_trait;
use proof::record::JobId;

use crate::StoreError;

/// What is known about one upstream object, learned from upstream's own answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRow {
    /// Kind of object: `run`, `plan`, `configuration-version` …
    pub kind: String,
    /// Its id.
    pub id: String,
    /// The workspace that owns it.
    pub workspace_id: String,
    /// The organization, when the answer named it.
    pub organization: Option<String>,
    /// The job whose own call made it. Give it only then: an object that was merely seen in an
    /// answer has no owner.
    pub job_id: Option<JobId>,
    /// The run that it is a part of.
    pub run_id: Option<String>,
    /// The object that led to it.
    pub parent: Option<String>,
}

/// The id index.
#[async_trait]
pub trait Objects {
    /// Learns objects, all or none. The first workspace and the first owner win and are never
    /// overwritten; an object that was seen before its owner's answer arrived gets its owner
    /// then. The other members are filled in when they were not known.
    ///
    /// # Errors
    /// [`Conflict::ObjectElsewhere`](crate::Conflict::ObjectElsewhere) for a known id with
    /// another workspace or another owner.
    async fn learn(&self, objects: Vec<ObjectRow>) -> Result<(), StoreError>;

    /// What is known about an object.
    async fn object(&self, kind: &str, id: &str) -> Result<Option<ObjectRow>, StoreError>;
}
