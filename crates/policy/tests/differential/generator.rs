//! Random contracts and calls, all from one seed.

mod request;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// Something to decide.
#[derive(Debug)]
pub enum Question {
    Request(Request),
    Terraform(TerraformFacts),
    Model(ModelFacts),
    Egress(EgressFacts),
}

#[derive(Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub body: Vec<u8>,
}

#[derive(Debug)]
pub struct TerraformFacts {
    pub operation: &'static str,
    pub scope: Vec<String>,
    pub organization: Option<String>,
    pub organization_known: bool,
    pub workspace: Option<String>,
    pub run_id: Option<String>,
    pub owned: bool,
    pub run: Option<RunAsked>,
    pub approved: bool,
}

#[derive(Debug, Default)]
pub struct RunAsked {
    pub wishes: BTreeSet<&'static str>,
    pub targets: u32,
    pub replace: u32,
    pub variables: Vec<String>,
    pub configuration: &'static str,
}

#[derive(Debug)]
pub struct ModelFacts {
    pub scope: Vec<String>,
    pub provider: &'static str,
    pub fallbacks: Vec<&'static str>,
    pub surface: &'static str,
    pub model: Option<&'static str>,
    pub calls: u64,
    pub tokens: u64,
    pub wanted: Option<u64>,
    /// Cents that the job has spent, and that the call can cost.
    pub cost: Option<(u64, u64)>,
    pub tools: Option<Vec<&'static str>>,
}

#[derive(Debug)]
pub struct EgressFacts {
    pub connect: bool,
    pub scope: Vec<String>,
    pub host: &'static str,
    pub port: u16,
    pub reserved: Option<&'static str>,
    pub addresses: Option<Vec<&'static str>>,
    pub excepted: Vec<&'static str>,
}

/// splitmix64: tiny, and good enough to draw from lists.
pub struct Generator(u64);

const WORKSPACES: &[&str] = &[
    "ws-staging-app",
    "ws-a",
    "ws-b",
    "ws-Ab3dEf6hIj9kLmN0",
    "ws-z-9",
];
const ORGANIZATIONS: &[&str] = &["acme", "other", "a_b-1"];
const VARIABLES: &[&str] = &["region", "size", "token", "a-b"];
const MODELS: &[&str] = &["gpt-5", "gpt-5-mini", "claude-opus", "o4", ""];
const TOOLS: &[&str] = &["exec", "tfc__plan", "tfc__apply", "web_search"];
const PROVIDERS: &[&str] = &["openai", "anthropic"];
const SCOPES: &[&str] = &[
    "proxy:call",
    "tfc:plan",
    "tfc:apply",
    "model:call",
    "tfc:apply:run-1",
    "tfc:apply:run-2",
    "tfc:apply:",
];
const PATTERNS: &[&str] = &[
    "a.example",
    "*.a.example",
    "*.b.example:8443",
    "b.example:22",
    "app.terraform.io",
    "*.openai.azure.com",
    "10.0.0.7",
    "93.184.216.34",
    "[2606:4700::1111]:8443",
];
const HOSTS: &[&str] = &[
    "a.example",
    "x.a.example",
    "x.y.a.example",
    "xa.example",
    "b.example",
    "x.b.example",
    "A.example",
    "a.example.",
    "127.1",
    "10.0.0.7",
    "93.184.216.34",
    "2606:4700::1111",
    "app.terraform.io",
    "me.openai.azure.com",
    "",
];
const PUBLIC: &[&str] = &["93.184.216.34", "1.1.1.1", "2606:4700::1111"];
const ADDRESSES: &[&str] = &[
    "93.184.216.34",
    "10.0.0.7",
    "127.0.0.1",
    "169.254.169.254",
    "100.64.1.1",
    "2606:4700::1111",
    "::1",
    "::ffff:1.1.1.1",
    "fe80::1",
    "2002:101:101::1",
];
const WISHES: &[&str] = &[
    "is-destroy",
    "refresh-only",
    "auto-apply",
    "plan-only",
    "save-plan",
    "allow-empty-apply",
    "debugging-mode",
    "allow-config-generation",
    "invoke-action-addrs",
    "terraform-version",
    "policy-paths",
];

impl Generator {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bd1_e995_c0ff_ee11)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    fn pick<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        list[self.below(list.len())]
    }

    fn some(&mut self, list: &[&'static str], chance: usize) -> Vec<&'static str> {
        list.iter()
            .copied()
            .filter(|_| self.percent(chance))
            .collect()
    }

    /// A contract that reads without error; each member is there or not.
    pub fn contract(&mut self) -> Value {
        let mut permissions = Map::new();
        if self.percent(40) {
            permissions.insert("organization".into(), self.pick(ORGANIZATIONS).into());
        }
        let mut workspaces = self.some(WORKSPACES, 40);
        if workspaces.is_empty() {
            workspaces.push(self.pick(WORKSPACES));
        }
        permissions.insert("workspaces".into(), json!(workspaces));
        let allowed = self.percent(60);
        let plan = self.percent(85);
        let mut operations = Vec::new();
        if plan {
            operations.push("plan");
            if allowed && self.percent(50) {
                operations.push("apply");
            }
        }
        permissions.insert("operations".into(), json!(operations));
        if allowed || self.percent(50) {
            let mut apply = Map::new();
            if allowed || self.percent(50) {
                apply.insert("allowed".into(), allowed.into());
            }
            apply.insert(
                "approvers".into(),
                json!(["a@example.com", "b@example.com"]),
            );
            if self.percent(50) {
                apply.insert("requires_approval".into(), self.percent(60).into());
            }
            if self.percent(30) {
                apply.insert(
                    "on_missing_approval".into(),
                    self.pick(&["hold", "reject"]).into(),
                );
            }
            permissions.insert("apply".into(), apply.into());
        }
        for name in ["state_read", "outputs_read"] {
            if self.percent(50) {
                permissions.insert(name.into(), self.percent(50).into());
            }
        }
        if self.percent(70) {
            let mut run = Map::new();
            for name in ["destroy", "refresh_only", "targets", "replace"] {
                if self.percent(60) {
                    run.insert(name.into(), self.percent(60).into());
                }
            }
            run.insert("variables".into(), json!(self.some(VARIABLES, 60)));
            permissions.insert("run".into(), run.into());
        }
        if self.percent(20) {
            permissions.insert("cost".into(), json!({"max_monthly_total_usd": "12.50"}));
        }
        let mut contract = json!({
            "wpc_version": "1.0", "name": "random", "tool": "terraform-cloud",
            "connection": "official-api", "permissions": permissions,
        });
        if self.percent(60) {
            let mut models = Map::new();
            if self.percent(85) {
                models.insert("providers".into(), json!(self.some(PROVIDERS, 75)));
            }
            if self.percent(85) {
                let globs = ["gpt-5", "gpt-5*", "claude-*", "*", "o?", "*-mini"];
                models.insert("allowed".into(), json!(self.some(&globs, 30)));
            }
            for (name, max) in [("max_calls", 4), ("max_tokens", 200)] {
                if self.percent(50) {
                    models.insert(name.into(), self.below(max).into());
                }
            }
            if self.percent(40) {
                let cents = self.below(300);
                let amount = format!("{}.{:02}", cents / 100, cents % 100);
                models.insert("max_cost_usd".into(), amount.into());
            }
            if self.percent(40) {
                let mut tools = Map::new();
                let globs = ["exec", "tfc__*", "*", "web_search", "tfc__a*"];
                for name in ["allow", "deny"] {
                    if self.percent(60) {
                        tools.insert(name.into(), json!(self.some(&globs, 30)));
                    }
                }
                models.insert("tools".into(), tools.into());
            }
            contract["models"] = models.into();
        }
        if self.percent(60) {
            let hosts = self.some(PATTERNS, 30);
            contract["egress"] = json!({ "allow_hosts": hosts });
        }
        contract
    }

    pub fn question(&mut self) -> Question {
        match self.below(100) {
            0..50 => Question::Request(self.request()),
            50..80 => Question::Terraform(self.terraform()),
            80..90 => Question::Egress(self.egress()),
            _ => Question::Model(self.model()),
        }
    }

    fn scopes(&mut self) -> Vec<String> {
        let mut scopes = self.some(SCOPES, 30);
        if self.percent(70) {
            scopes.extend(["proxy:call", "tfc:plan", "tfc:apply", "model:call"]);
        }
        scopes.into_iter().map(str::to_owned).collect()
    }

    fn terraform(&mut self) -> TerraformFacts {
        const OPERATIONS: &[&str] = &[
            "discovery",
            "ping",
            "account-details",
            "entitlement-set",
            "capacity",
            "runs-queue",
            "list-workspaces",
            "workspace-by-name",
            "workspace-by-id",
            "workspace-tag-bindings",
            "workspace-runs",
            "current-state-version",
            "current-state-version-outputs",
            "state-version-output",
            "create-configuration-version",
            "read-configuration-version",
            "read-run",
            "run-events",
            "run-task-stages",
            "run-policy-checks",
            "read-task-stage",
            "read-policy-check",
            "policy-check-output",
            "run-comments",
            "read-plan",
            "plan-json-redacted",
            "read-apply",
            "read-cost-estimate",
            "discard-run",
            "cancel-run",
        ];
        let operation = match self.below(10) {
            0..3 => "create-run",
            3..5 => "apply-run",
            _ => self.pick(OPERATIONS),
        };
        TerraformFacts {
            operation,
            scope: self.scopes(),
            organization: self
                .percent(85)
                .then(|| self.pick(ORGANIZATIONS).to_owned()),
            organization_known: self.percent(60),
            workspace: self.percent(92).then(|| self.pick(WORKSPACES).to_owned()),
            run_id: self
                .percent(80)
                .then(|| self.pick(&["run-1", "run-2", "run-3", ""]).to_owned()),
            owned: self.percent(85),
            run: self
                .percent(if operation == "create-run" { 95 } else { 10 })
                .then(|| self.run()),
            approved: self.percent(40),
        }
    }

    fn run(&mut self) -> RunAsked {
        let chance = self.pick(&[&0, &8, &40]);
        RunAsked {
            wishes: self.some(WISHES, *chance).into_iter().collect(),
            targets: if self.percent(*chance) {
                1 + self.below(3) as u32
            } else {
                0
            },
            replace: if self.percent(*chance) {
                1 + self.below(3) as u32
            } else {
                0
            },
            variables: self
                .some(VARIABLES, *chance)
                .into_iter()
                .map(str::to_owned)
                .collect(),
            configuration: if self.percent(70) {
                "inspected"
            } else {
                self.pick(&[
                    "absent",
                    "pinned",
                    "unknown",
                    "not-inspected",
                    "other-workspace",
                    "not-owned",
                ])
            },
        }
    }

    fn egress(&mut self) -> EgressFacts {
        let host = self.pick(HOSTS);
        let addresses = self.percent(85).then(|| match self.percent(80) {
            // What is an address has that one.
            true if host.parse::<std::net::IpAddr>().is_ok() => vec![host],
            true => vec![self.pick(PUBLIC)],
            false => self.some(ADDRESSES, 15),
        });
        EgressFacts {
            connect: self.percent(70),
            scope: self.scopes(),
            host,
            port: *self.pick(&[&443, &80, &8443, &22, &0]),
            reserved: self
                .percent(10)
                .then(|| self.pick(&["gateway", "terraform-cloud", "model-provider"])),
            addresses,
            excepted: self.some(&["10.0.0.0/8", "::1/128", "127.0.0.0/8"], 25),
        }
    }

    fn model(&mut self) -> ModelFacts {
        let surfaces = [
            "chat-completions",
            "responses",
            "embeddings",
            "models",
            "messages",
            "count-tokens",
        ];
        ModelFacts {
            scope: self.scopes(),
            provider: self.pick(PROVIDERS),
            fallbacks: self.some(PROVIDERS, 10),
            surface: self.pick(&surfaces),
            model: self.percent(95).then(|| self.pick(MODELS)),
            calls: self.below(5) as u64,
            tokens: if self.percent(5) {
                u64::MAX
            } else {
                self.below(220) as u64
            },
            wanted: match self.below(10) {
                0..5 => None,
                5 => Some(u64::MAX),
                _ => Some(self.below(220) as u64),
            },
            cost: self
                .percent(80)
                .then(|| (self.below(320) as u64, self.below(160) as u64)),
            tools: self.percent(90).then(|| self.some(TOOLS, 30)),
        }
    }
}
