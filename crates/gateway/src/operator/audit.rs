//! What operators did, kept where it cannot be changed.

use std::fmt::Display;
use std::future::Future;

use proof::{Json, Timestamp};
use store::{OperatorAction, Store, StoreError};

/// One action of one operator, before it happens.
#[derive(Debug)]
pub struct Action<'a> {
    /// Who.
    pub operator: &'a str,
    /// What, by its stable name: `job.open`, `token.revoke` …
    pub name: &'static str,
    /// To what: the id or hash of one thing.
    pub subject: String,
    /// Particulars; never a secret.
    pub detail: Vec<(&'static str, String)>,
    /// Now.
    pub at: Timestamp,
}

/// Notes the action, then does it. What cannot be noted is not done, so an action in the list
/// may have failed (then a second line says so), but none is missing from it.
///
/// # Errors
/// Those of `effect`, and [`StoreError`] when the action cannot be noted.
pub async fn audited<T, E>(
    store: &dyn Store,
    action: Action<'_>,
    effect: impl Future<Output = Result<T, E>>,
) -> Result<T, E>
where
    E: From<StoreError> + Display,
{
    store.note_operator_action(action.row(None)).await?;
    let result = effect.await;
    match &result {
        Ok(_) => tracing::info!(
            operator = action.operator,
            action = action.name,
            subject = action.subject,
            "an operator acted"
        ),
        Err(error) => {
            tracing::warn!(
                operator = action.operator,
                action = action.name,
                subject = action.subject,
                %error,
                "an operator's action failed"
            );
            let failure = store
                .note_operator_action(action.row(Some(error.to_string())))
                .await;
            if let Err(error) = failure {
                tracing::error!(%error, "the failure of an operator's action cannot be noted");
            }
        }
    }
    result
}

impl Action<'_> {
    /// Notes something that is no operator's wish, and has happened.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be noted.
    pub async fn note(&self, store: &dyn Store) -> Result<(), StoreError> {
        store.note_operator_action(self.row(None)).await
    }

    fn row(&self, failure: Option<String>) -> OperatorAction {
        let mut detail = Json::object();
        for (name, value) in &self.detail {
            detail.set(name, value.as_str());
        }
        if let Some(failure) = failure {
            detail.set("failed", failure);
        }
        OperatorAction {
            at: self.at,
            operator: self.operator.to_owned(),
            action: self.name.to_owned(),
            subject: self.subject.clone(),
            detail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn failures_are_noted_too() {
        let store = store::open_sqlite_in_memory().unwrap();
        let action = || Action {
            operator: "olga",
            name: "job.open",
            subject: "job_1".into(),
            detail: vec![("reason", "why".into())],
            at: Timestamp::from_seconds(1),
        };
        let done = audited(&*store, action(), async { Ok::<_, StoreError>(7) }).await;
        assert_eq!(done.unwrap(), 7);
        let failed = async { Err::<(), _>(StoreError::Busy) };
        assert!(audited(&*store, action(), failed).await.is_err());
        let actions = store.operator_actions(10).await.unwrap();
        assert_eq!(actions.len(), 3);
        assert!(
            actions[0].detail.get("failed").is_some(),
            "the newest is the failure"
        );
        assert!(
            actions[1..]
                .iter()
                .all(|action| action.detail.get("failed").is_none())
        );
    }
}
