//! Whether a workspace, as it is set now, lets the gateway do its work at all.

use http::HeaderMap;
use policy::{ReasonCode, Refusal};

use crate::app::App;
use crate::clawproxy::terraform::workspaces;

/// Where an answer says which product made it.
const APP_NAME: &str = "tfp-appname";

/// Whether the product that answered lets a run's own `auto-apply` count, whatever the workspace
/// says. Of Terraform Cloud we know that; of a private Terraform Enterprise of unknown age, or of
/// something else that speaks its language, we do not.
pub fn honours_auto_apply(headers: &HeaderMap) -> bool {
    let name = headers.get(APP_NAME).and_then(|name| name.to_str().ok());
    matches!(name, Some("HCP Terraform" | "Terraform Cloud"))
}

/// Whether runs may be made in a workspace: where none are executed upstream no gate can hold
/// one, and where upstream may apply a run by itself nobody's approval would be waited for.
///
/// `applies` says that the run is one that could be applied.
///
/// # Errors
/// `WORKSPACE_EXECUTES_LOCALLY`, `WORKSPACE_AUTO_APPLIES`, or an `UPSTREAM_…` code. A workspace
/// that upstream does not have is admitted here; it is refused where it is asked for.
pub async fn admits(app: &App, workspace_id: &str, applies: bool) -> Result<(), Refusal> {
    let Some(workspace) = workspaces::read(app, workspace_id).await? else {
        return Ok(());
    };
    if workspace.execution_mode == "local" {
        return Err(ReasonCode::WorkspaceExecutesLocally.into());
    }
    if applies && workspace.auto_apply && !workspace.honours_auto_apply {
        return Err(ReasonCode::WorkspaceAutoApplies.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_terraform_cloud_is_known_to_honour_it() {
        for (name, honours) in [
            (Some("HCP Terraform"), true),
            (Some("Terraform Cloud"), true),
            (Some("Terraform Enterprise"), false),
            (Some("hcp terraform"), false),
            (Some(""), false),
            (None, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(name) = name {
                headers.insert(APP_NAME, HeaderValue::from_static(name));
            }
            assert_eq!(honours_auto_apply(&headers), honours, "{name:?}");
        }
    }
}
