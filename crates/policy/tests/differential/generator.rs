//! Random contracts and calls, all from one seed.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::request::ROUTES;

/// Something to decide.
#[derive(Debug)]
pub enum Question {
    Request(Request),
    Terraform(TerraformFacts),
    Model(ModelFacts),
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
        contract
    }

    pub fn question(&mut self) -> Question {
        match self.below(100) {
            0..50 => Question::Request(self.request()),
            50..85 => Question::Terraform(self.terraform()),
            _ => Question::Model(self.model()),
        }
    }

    fn scopes(&mut self) -> Vec<String> {
        let mut scopes = self.some(SCOPES, 30);
        if self.percent(70) {
            scopes.extend(["tfc:plan", "tfc:apply", "model:call"]);
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

    fn request(&mut self) -> Request {
        let (mut method, template) = if self.percent(55) {
            self.pick::<(&str, &str)>(&[
                &("POST", "/api/v2/runs"),
                &("POST", "/api/v2/runs"),
                &("POST", "/api/v2/runs"),
                &(
                    "POST",
                    "/api/v2/workspaces/{workspace}/configuration-versions",
                ),
                &("POST", "/api/v2/runs/{run}/actions/apply"),
                &("POST", "/api/v2/runs/{run}/actions/discard"),
                &("GET", "/api/v2/runs/{run}"),
                &("GET", "/api/v2/runs/{run}/run-events"),
                &("GET", "/api/v2/workspaces/{workspace}/runs"),
                &(
                    "GET",
                    "/api/v2/organizations/{organization}/workspaces/{workspace-name}",
                ),
            ])
            .to_owned()
        } else {
            let route = &ROUTES[self.below(ROUTES.len())];
            (route.method, route.template)
        };
        if method == "*" || self.percent(3) {
            method = self.pick(&["GET", "POST", "PATCH", "PUT", "DELETE"]);
        }
        if self.percent(1) {
            method = self.pick(&["HEAD", "get", "OPTIONS", "", "TRACE"]);
        }
        let segments: Vec<String> = template
            .split('/')
            .map(|segment| self.segment(segment))
            .collect();
        let mut target = segments.join("/");
        if self.percent(12) {
            target = self.damaged(target);
        }
        if self.percent(20) {
            target = format!("{target}?{}", self.query());
        }
        let body = match template {
            "/api/v2/runs" => self.run_body(),
            template if template.ends_with("/configuration-versions") => self.upload_body(),
            template if template.contains("/actions/") => self.action_body(),
            _ if self.percent(3) => b"{}".to_vec(),
            _ => Vec::new(),
        };
        Request {
            method: method.to_owned(),
            target,
            body,
        }
    }

    fn segment(&mut self, template: &str) -> String {
        let kind = match template.strip_prefix('{') {
            None => return template.to_owned(),
            Some(kind) => kind.trim_end_matches('}'),
        };
        if self.percent(4) {
            let long = format!("ws-{}", "a".repeat(65));
            return self
                .pick(&["x", "ws-", "run_1", "a.b", "WS-1", &long])
                .to_owned();
        }
        match kind {
            "organization" => self.pick(ORGANIZATIONS).to_owned(),
            "workspace-name" => "staging-app".to_owned(),
            "workspace" => self.pick(WORKSPACES).to_owned(),
            "configuration-version" => "cv-1".to_owned(),
            "cost-estimate" => "ce-1".to_owned(),
            "output" => "wsout-1".to_owned(),
            "policy-check" => "polchk-1".to_owned(),
            "task-stage" => "ts-1".to_owned(),
            "rest" => self.pick(&["a", "a/b", "runs"]).to_owned(),
            other => format!("{other}-1"),
        }
    }

    fn damaged(&mut self, target: String) -> String {
        let at = target.len() * self.below(9) / 8;
        let piece = self.pick(&[
            "/",
            "//",
            "/.",
            "/..",
            "%2f",
            "%2e%2e",
            ";a=b",
            "#x",
            ".json",
            ".xml",
            " ",
            "\u{e4}",
            "/actions/apply",
            "\\",
            "runs",
            "?",
            "&",
            "\0",
        ]);
        match self.below(10) {
            0..6 if target.is_char_boundary(at) => {
                format!("{}{piece}{}", &target[..at], &target[at..])
            }
            6 => target.to_uppercase(),
            7 => target.trim_start_matches('/').to_owned(),
            8 => format!("{target}.json"),
            9 if self.percent(20) => format!("{target}{}", "/x".repeat(1100)),
            _ => format!("https://app.terraform.io{target}"),
        }
    }

    fn query(&mut self) -> String {
        let pairs: Vec<&str> = (0..1 + self.below(3))
            .map(|_| {
                self.pick(&[
                    "include=plan",
                    "include=workspace%2Cplan",
                    "include=plan,plan",
                    "include=outputs",
                    "include=",
                    "include=actor,comment",
                    "include=readme,project",
                    "include=task_results",
                    "search[name]=app",
                    "search%5Btags%5D=a,b",
                    "search[tags]=",
                    "page[number]=1",
                    "page%5Bnumber%5D=2",
                    "page%5Bsize%5D=100",
                    "page[size]=101",
                    "page[size]=0",
                    "page[size]=+1",
                    "page[number]=01",
                    "page[number]=100001",
                    "data[attributes][auto-apply]=true",
                    "_method=delete",
                    "page%255Bsize%255D=1",
                    "page%5",
                    "a=%zz",
                    "a=%+1",
                    "a=\u{e4}",
                    "a",
                    "",
                ])
            })
            .collect();
        pairs.join("&")
    }

    fn run_body(&mut self) -> Vec<u8> {
        let mut attributes = Map::new();
        let chance = *self.pick(&[&5, &5, &30]);
        for name in WISHES {
            if self.percent(chance) {
                let value = match *name {
                    "invoke-action-addrs" | "policy-paths" => {
                        self.any(&[json!(["a.b"]), json!([]), json!(["x", "y"])])
                    }
                    "terraform-version" => json!("1.11.4"),
                    _ => self.percent(80).into(),
                };
                attributes.insert((*name).to_owned(), value);
            }
        }
        for name in ["target-addrs", "replace-addrs"] {
            if self.percent(chance) {
                let value = self.any(&[
                    json!(["a.b"]),
                    json!([]),
                    json!(["a.b", "a.c"]),
                    json!([""]),
                    json!(["a\n"]),
                    json!([1]),
                    json!(vec!["a.b"; 257]),
                    json!(["a".repeat(1025)]),
                ]);
                attributes.insert(name.to_owned(), value);
            }
        }
        if self.percent(chance) {
            let mut variables: Vec<Value> = self
                .some(VARIABLES, 40)
                .into_iter()
                .map(|name| json!({"key": name, "value": "\"x\""}))
                .collect();
            if self.percent(15) {
                variables.push(self.any(&[
                    json!({"key": "region", "value": "1"}),
                    json!({"key": "a b", "value": "1"}),
                    json!({"key": "x"}),
                    json!({"key": "x", "value": 1}),
                    json!("x"),
                    json!({"key": "x", "value": "1", "hcl": true}),
                    json!({"key": "", "value": ""}),
                ]));
            }
            attributes.insert("variables".to_owned(), variables.into());
        }
        for name in ["message", "refresh", "comment"] {
            if self.percent(chance) {
                let value = if name == "refresh" {
                    json!(false)
                } else {
                    json!("hello")
                };
                attributes.insert(name.to_owned(), value);
            }
        }
        if self.percent(chance) {
            let repeated = [
                ("type", json!("runs")),
                ("type", json!("applies")),
                ("workspace", json!({"id": "ws-staging-app", "tags": []})),
                ("workspace", json!({})),
                ("workspace", json!("ws-staging-app")),
                ("configuration-version", json!({"id": "cv-1"})),
                ("configuration_version", json!({"id": "cv-2"})),
            ];
            let (name, value) = repeated[self.below(repeated.len())].clone();
            attributes.insert(name.to_owned(), value);
        }
        self.spoil_attributes(&mut attributes);
        let mut relationships = Map::new();
        let mut relate = |name: &str, kind: &str, id: &str| {
            relationships.insert(name.to_owned(), json!({"data": {"type": kind, "id": id}}));
        };
        relate("workspace", "workspaces", self.pick(WORKSPACES));
        if self.percent(85) {
            let name = if self.percent(90) {
                "configuration-version"
            } else {
                "configuration_version"
            };
            relate(name, "configuration-versions", "cv-1");
        }
        if self.percent(6) {
            let (name, value) = match self.below(12) {
                0 => ("workspace", json!({"data": null})),
                1 => ("workspace", json!({})),
                2 => ("workspace", json!({"data": {"type": "runs", "id": "ws-a"}})),
                3 => (
                    "workspace",
                    json!({"data": {"type": "workspaces", "id": "run-1"}}),
                ),
                4 => ("workspace", json!({"data": {"type": "workspaces"}})),
                5 => (
                    "workspace",
                    json!({"data": [{"type": "workspaces", "id": "ws-a"}]}),
                ),
                6 => (
                    "workspace",
                    json!({"data": {"type": "workspaces", "id": "ws-a"}, "links": {}}),
                ),
                7 => ("project", json!({"data": null})),
                8 => ("configuration-version", json!({"data": null})),
                9 => (
                    "configuration_version",
                    json!({"data": {"type": "configuration-versions", "id": "cv-2"}}),
                ),
                10 => (
                    "configuration-version",
                    json!({"data": {"type": "configuration-versions", "id": "cv_1"}}),
                ),
                _ => ("workspace", json!("ws-a")),
            };
            relationships.insert(name.to_owned(), value);
        }
        let document = json!({"data": {"type": "runs", "attributes": attributes, "relationships": relationships}});
        self.spoil(document)
    }

    fn upload_body(&mut self) -> Vec<u8> {
        let mut attributes = Map::new();
        for name in ["speculative", "provisional", "auto-queue-runs"] {
            if self.percent(50) {
                attributes.insert(name.to_owned(), self.percent(50).into());
            }
        }
        self.spoil_attributes(&mut attributes);
        let mut document =
            json!({"data": {"type": "configuration-versions", "attributes": attributes}});
        if self.percent(5) {
            document["data"]["relationships"] = json!({"ingress-attributes": {"data": null}});
        }
        self.spoil(document)
    }

    fn action_body(&mut self) -> Vec<u8> {
        match self.below(4) {
            0 => Vec::new(),
            1 => b"{}".to_vec(),
            2 => {
                let value = self.any(&[
                    json!({"comment": "x"}),
                    json!({"comment": null}),
                    json!({"comment": 1}),
                    json!({"force": true}),
                    json!([]),
                    json!("x"),
                ]);
                value.to_string().into_bytes()
            }
            _ => self.spoil(json!({"comment": "hello"})),
        }
    }

    fn any(&mut self, values: &[Value]) -> Value {
        values[self.below(values.len())].clone()
    }

    /// Other spellings, nulls, wrong types, unknown names.
    fn spoil_attributes(&mut self, attributes: &mut Map<String, Value>) {
        let names: Vec<String> = attributes.keys().cloned().collect();
        for name in names {
            match self.below(60) {
                0 => {
                    let value = attributes.remove(&name).expect("it was listed");
                    attributes.insert(name.replace('-', "_"), value);
                }
                1 => _ = attributes.insert(name.replace('-', "_"), json!(true)),
                2 => _ = attributes.insert(name, Value::Null),
                3 => _ = attributes.insert(name, self.any(&[json!(1), json!("true"), json!({})])),
                _ => {}
            }
        }
        if self.percent(3) {
            let name = self.pick(&["status", "auto_approve", "agent-pool-id", "Auto-Apply"]);
            attributes.insert(name.to_owned(), self.any(&[Value::Null, json!(true)]));
        }
    }

    /// The document's text, sometimes not what it should be.
    fn spoil(&mut self, mut document: Value) -> Vec<u8> {
        match self.below(60) {
            0 => document["included"] = json!([]),
            1 => document["data"] = json!([document["data"]]),
            2 => _ = document.as_object_mut().expect("an object").remove("data"),
            3 if document["data"].is_object() => {
                document["data"]["type"] = self.any(&[json!("run"), json!(1), json!("workspaces")]);
            }
            4 if document["data"].is_object() => document["data"]["id"] = json!("run-1"),
            5 if document["data"].is_object() => document["data"]["attributes"] = json!([]),
            6 if document["data"].is_object() => {
                document["data"]
                    .as_object_mut()
                    .expect("an object")
                    .remove("type");
            }
            7 if document["data"].is_object() => document["data"]["relationships"] = json!(true),
            _ => {}
        }
        let text = document.to_string();
        match self.below(60) {
            0 => format!("{text}x"),
            1 => text.replacen('{', "{\"a\":1,\"a\":2,", 1),
            2 => text.replacen('{', "{\"n\":1.5,", 1),
            3 => text.replacen('{', "{\"n\":9007199254740992,", 1),
            4 => format!("\u{feff}{text}"),
            5 => text.replacen(
                '{',
                &format!("{{\"d\":{}{},", "[".repeat(64), "]".repeat(64)),
                1,
            ),
            6 => text.replacen('{', "{\"n\":-9007199254740991,", 1),
            7 if self.percent(5) => format!("{text}{}", " ".repeat(1 << 20)),
            8 => text[..text.len() / 2].to_owned(),
            9 => String::new(),
            _ => text,
        }
        .into_bytes()
    }
}
