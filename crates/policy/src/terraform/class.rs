//! What a route would reach, and the code with which agents are refused there.

use std::str::FromStr;

use crate::reason::ReasonCode;

macro_rules! classes {
    ($($variant:ident $text:literal $code:ident;)*) => {
        /// The class of a route.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Class {
            $(#[doc = concat!("`", $text, "`")] $variant,)*
        }

        impl Class {
            /// Every class.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name in the route table.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The code of a route of this class that is not forwarded.
            pub const fn refusal(self) -> ReasonCode {
                match self { $(Self::$variant => ReasonCode::$code,)* }
            }
        }
    };
}

classes! {
    AccessAdmin "access-admin" AdminDenied;
    Account "account" AccountDenied;
    AgentAdmin "agent-admin" AdminDenied;
    Apply "apply" ApplyNotAllowed;
    Assessment "assessment" RunStartDenied;
    AuditRead "audit-read" AdminDenied;
    Billing "billing" AdminDenied;
    Comment "comment" CommentDenied;
    ConfigUpload "config-upload" RouteNotAllowed;
    CreateQueryRun "create-query-run" RunStartDenied;
    CreateRun "create-run" RunStartDenied;
    DataDestruction "data-destruction" DataDestructionDenied;
    DiscardCancel "discard-cancel" RouteNotAllowed;
    Discovery "discovery" RouteNotAllowed;
    Explorer "explorer" RouteNotAllowed;
    ForceCancel "force-cancel" ForceActionDenied;
    ForceExecute "force-execute" ForceActionDenied;
    ForceUnlock "force-unlock" ForceActionDenied;
    KeyAdmin "key-admin" AdminDenied;
    Legacy "legacy" RouteUnknown;
    LockUnlock "lock-unlock" LockDenied;
    ModuleTests "module-tests" RunStartDenied;
    NotificationAdmin "notification-admin" AdminDenied;
    OrgAdmin "org-admin" AdminDenied;
    PolicyAdmin "policy-admin" AdminDenied;
    PolicyOverride "policy-override" PolicyOverrideDenied;
    ProjectAdmin "project-admin" AdminDenied;
    ProviderSetAdmin "provider-set-admin" AdminDenied;
    ReadConfig "read-config" ConfigurationReadDenied;
    ReadCost "read-cost" RouteNotAllowed;
    ReadMetadata "read-metadata" RouteNotAllowed;
    ReadMetadataOrg "read-metadata-org" RouteNotAllowed;
    ReadOutputs "read-outputs" OutputsReadDenied;
    ReadPlan "read-plan" RouteNotAllowed;
    ReadPlanJson "read-plan-json" PlanJsonDenied;
    ReadPolicy "read-policy" RouteNotAllowed;
    ReadState "read-state" StateReadDenied;
    ReadVariables "read-variables" VariablesDenied;
    RegistryRead "registry-read" RegistryDenied;
    RegistryWrite "registry-write" RegistryDenied;
    RunTaskAdmin "run-task-admin" RunTaskDenied;
    RunTaskResult "run-task-result" RunTaskDenied;
    RunTriggerAdmin "run-trigger-admin" WorkspaceAdminDenied;
    SignedObjectRead "signed-object-read" SignedUrlDenied;
    SignedObjectWrite "signed-object-write" SignedUrlDenied;
    SiteAdmin "site-admin" AdminDenied;
    StackApply "stack-apply" StacksDenied;
    StackRead "stack-read" StacksDenied;
    StackWrite "stack-write" StacksDenied;
    StateSharing "state-sharing" StateSharingDenied;
    StateWrite "state-write" StateWriteDenied;
    TokenMint "token-mint" TokenMintDenied;
    Unknown "unknown" RouteUnknown;
    VariablesWrite "variables-write" VariablesDenied;
    VcsAdmin "vcs-admin" AdminDenied;
    WorkspaceAdmin "workspace-admin" WorkspaceAdminDenied;
    WorkspaceCreate "workspace-create" WorkspaceAdminDenied;
    WorkspaceDelete "workspace-delete" WorkspaceAdminDenied;
}

impl FromStr for Class {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL
            .iter()
            .copied()
            .find(|class| class.as_str() == text)
            .ok_or(())
    }
}
