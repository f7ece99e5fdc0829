//! Random requests: mostly well-formed, each fault of form now and then.

use serde_json::{Map, Value, json};

use super::{Generator, ORGANIZATIONS, Request, VARIABLES, WISHES, WORKSPACES};
use crate::request::ROUTES;

impl Generator {
    pub(super) fn request(&mut self) -> Request {
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
