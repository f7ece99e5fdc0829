//! Jobs as their agents, approvers and operators live them. Each step can be taken again.

use clawgate::app::now;
use clawgate::keys::random_text;
use http::Method;
use proof::approval::{Decision, Judgement, Subject};
use proof::hash::decode_b64u;
use proof::{Envelope, EnvelopeType};
use serde_json::{Value, json};
use sim::{Fault, FaultAction, Request};

use crate::chance::Chance;
use crate::client::{Answer, archive, run_body};
use crate::ledger::{Held, Receipt};
use crate::world::{Lost, MAX_CALLS, World};

/// How a job's plan ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It is approved and applied.
    Applied,
    /// The approver says no.
    Denied,
    /// The agent only plans.
    PlanOnly,
    /// It breaks the contract.
    Violates,
    /// Nobody says anything.
    Lapses,
    /// Somebody discards it at Terraform Cloud.
    DiscardedOutside,
    /// Another plan stands in its place when it is looked at for the last time.
    PlanReplaced,
    /// An operator stops it in that moment.
    Stopped,
    /// The request to apply gets lost.
    ApplyLost,
    /// The apply fails.
    ApplyFails,
}

impl Ending {
    /// Where the gate may stand in the end. Who wants to get between approval and apply may come
    /// too late when the gateway dies meanwhile.
    fn allows(self, state: &str) -> bool {
        let states: &[&str] = match self {
            Self::Applied | Self::ApplyLost => &["applied"],
            Self::Denied => &["denied"],
            Self::PlanOnly => &["finished"],
            Self::Violates => &["discarded"],
            Self::Lapses => &["expired"],
            Self::DiscardedOutside => &["superseded"],
            Self::PlanReplaced => &["superseded", "applied"],
            Self::Stopped => &["discarded", "applied"],
            Self::ApplyFails => &["errored"],
        };
        states.contains(&state)
    }

    fn agrees(self) -> bool {
        !matches!(
            self,
            Self::Denied | Self::PlanOnly | Self::Violates | Self::Lapses | Self::DiscardedOutside
        )
    }
}

/// States after which nothing follows.
const ENDS: [&str; 7] = [
    "applied",
    "errored",
    "denied",
    "expired",
    "superseded",
    "discarded",
    "finished",
];

const JSON: &str = "application/json";
const JSON_API: &str = "application/vnd.api+json";

/// A job on its way.
pub(crate) struct Story<'w> {
    world: &'w World,
    /// Its name, which no other job has.
    pub(crate) name: String,
    pub(crate) job: String,
    token: String,
}

impl<'w> Story<'w> {
    /// Opens a job and gets a token for it.
    pub(crate) async fn open(world: &'w World, name: String, ending: Ending) -> Self {
        let policy = match ending {
            Ending::Violates => world.narrow_policy,
            _ => world.policy,
        };
        let job = world
            .again(async || {
                // The answer may have been lost, and the job be there.
                let list = world.operator("/v1/jobs?limit=1000", None).await?.ok();
                let jobs = list["jobs"].as_array().unwrap();
                if let Some(there) = jobs.iter().find(|job| job["name"] == name) {
                    return Ok(there["job_id"].as_str().unwrap().to_owned());
                }
                let wanted = json!({"name": name, "policy_hash_b64u": policy});
                let opened = world.operator("/v1/jobs", Some(&wanted)).await?.ok();
                Ok(opened["job_id"].as_str().unwrap().to_owned())
            })
            .await;
        let (token, _) = new_token(world, &job).await;
        Self {
            world,
            name,
            job,
            token,
        }
    }

    /// Asks the model so many times; beyond the budget it is refused.
    pub(crate) async fn asks(&self, times: u64) {
        for n in 0..times {
            let stream = n % 2 == 1;
            self.world.again(async || self.ask(n, stream).await).await;
        }
    }

    async fn ask(&self, n: u64, stream: bool) -> Result<(), Lost> {
        let content = format!("{} question {n}", self.name);
        let body = json!({"model": "gpt-5", "stream": stream, "max_completion_tokens": 64,
            "messages": [{"role": "user", "content": content}]});
        let path = "/openai/v1/chat/completions";
        let answer = self
            .call(Method::POST, path, JSON, body.to_string())
            .await?;
        let code = answer.code();
        if answer.status == 402 {
            // Calls that were cut off count, too.
            assert!(code.starts_with("MODEL_BUDGET_"), "{}", answer.text());
            let asked = questions(self.world, &self.name);
            assert!(asked > 0, "{}: refused before it asked anything", self.name);
            return Ok(());
        }
        assert!(
            answer.status.is_success(),
            "{} {}",
            self.name,
            answer.text()
        );
        if stream {
            let Some(envelope) = envelope_in(&answer.text()) else {
                return Err(self.world.lost("a stream without a receipt"));
            };
            let id = envelope
                .payload
                .get("receipt_id")
                .and_then(proof::Json::as_str);
            let id = id.unwrap().to_owned();
            let envelope = Some(envelope);
            self.world
                .ledger
                .receipt(&self.job, Receipt { id, envelope }, 0);
        } else {
            let tokens = answer.json()["usage"]["total_tokens"].as_u64().unwrap();
            self.keep_receipt(&answer, tokens);
        }
        Ok(())
    }

    /// Asks for what the contract does not allow.
    pub(crate) async fn is_refused(&self) {
        let asked = self.world.again(async || {
            let path = "/api/v2/workspaces/ws-production-app";
            self.call(Method::GET, path, JSON_API, "").await
        });
        let refused = asked.await;
        assert!(refused.status.is_client_error(), "{}", refused.text());
        let read = self.world.again(async || {
            let path = "/api/v2/workspaces/ws-staging-app";
            let read = self.call(Method::GET, path, JSON_API, "").await?;
            read.ok();
            self.keep_receipt(&read, 0);
            Ok(())
        });
        read.await;
    }

    /// Gets a second token and has it revoked.
    pub(crate) async fn revokes(&self) {
        let (token, hash) = new_token(self.world, &self.job).await;
        let path = "/v1/job";
        let use_it = async || self.world.agent(&token, Method::GET, path, JSON, "").await;
        self.world.again(use_it).await.ok();
        let revoke = json!({"token_hash": hash, "reason": "tried out"});
        let revoked = self.world.again(async || {
            let revoke = self.world.operator("/v1/tokens/revoke", Some(&revoke));
            revoke.await.map(|answer| answer.ok())
        });
        revoked.await;
        self.world.ledger.revoked(&self.job, &token);
        let refused = self.world.again(use_it).await;
        assert_eq!(refused.status, 401, "a revoked token: {}", refused.text());
    }

    /// Uploads a change, has it planned, and sees to its end.
    pub(crate) async fn plans(&self, workspace: &str, ending: Ending) {
        let run = self.asks_for_run(workspace, ending).await;
        if !matches!(ending, Ending::PlanOnly | Ending::Violates) {
            self.comes_to(&run, &["awaiting_approval"]).await;
            self.is_decided(workspace, &run, ending).await;
        }
        let end = self.comes_to(&run, &ENDS).await;
        assert!(
            ending.allows(&end),
            "{}: {run} {end}, {ending:?}",
            self.name
        );
        self.world.cloud.wait_until_ended(&run).await.unwrap();
    }

    async fn asks_for_run(&self, workspace: &str, ending: Ending) -> String {
        let world = self.world;
        let wanted = match world.instances(workspace) {
            1 => 2,
            _ => 1,
        };
        let upload = world
            .again(async || self.upload(workspace, wanted).await)
            .await;
        let attributes = match ending {
            Ending::PlanOnly => json!({"plan-only": true, "message": self.name}),
            _ => json!({"auto-apply": true, "message": self.name}),
        };
        let body = run_body(workspace, &upload, &attributes).to_string();
        let made = world.again(async || {
            let made = self
                .call(Method::POST, "/api/v2/runs", JSON_API, body.clone())
                .await?;
            let run = made.ok()["data"]["id"].as_str().unwrap().to_owned();
            self.keep_receipt(&made, 0);
            Ok(run)
        });
        made.await
    }

    /// Uploads a change and has it planned, until people are asked.
    pub(crate) async fn is_held(&self, workspace: &str) -> String {
        let run = self.asks_for_run(workspace, Ending::Applied).await;
        assert_eq!(
            self.comes_to(&run, &["awaiting_approval"]).await,
            "awaiting_approval"
        );
        run
    }

    /// Asks the model once, whatever is answered; what is answered is nobody's to keep.
    pub(crate) async fn asked_once(&self) -> Result<Answer, Lost> {
        let content = format!("{} question x", self.name);
        let body = json!({"model": "gpt-5", "max_completion_tokens": 64,
            "messages": [{"role": "user", "content": content}]});
        let path = "/openai/v1/chat/completions";
        self.call(Method::POST, path, JSON, body.to_string()).await
    }

    /// Makes a call as Terraform's clients do.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<Answer, Lost> {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        self.call(method, path, JSON_API, body).await
    }

    async fn is_decided(&self, workspace: &str, run: &str, ending: Ending) {
        let cloud = &self.world.cloud;
        let last_look = format!("/api/v2/workspaces/{workspace}/current-state-version");
        let apply = format!("/api/v2/runs/{run}/actions/apply");
        match ending {
            Ending::Lapses => return,
            Ending::DiscardedOutside => {
                let url = format!("{}/api/v2/runs/{run}/actions/discard", cloud.url());
                let owner = crate::client::Caller::new(&cloud.url(), Some(cloud.token("owner")));
                let path = url.strip_prefix(&cloud.url()).unwrap();
                owner.send(path, &json!({"comment": "by hand"})).await.ok();
                return;
            }
            Ending::PlanReplaced | Ending::Stopped => {
                let before = cloud.requests().last().map_or(0, |request| request.seq);
                let hold = Fault::once("GET", &last_look, FaultAction::Hold);
                let held = cloud.set_fault(hold).unwrap();
                self.judges(run, Decision::Approve).await;
                let looks = |r: &Request| r.seq > before && r.path == last_look;
                cloud.wait_for_request(looks).await;
                match ending {
                    Ending::PlanReplaced => {
                        let mut plan = cloud.plan(run).unwrap();
                        plan["variables"]["another"] = json!({"value": "plan"});
                        cloud.replace_plan(run, plan).unwrap();
                    }
                    _ => {
                        let path = format!("/v1/rollback/run/{run}");
                        let stop = json!({"reason": "tried out"});
                        // It may come too late, and it may have been there before a crash.
                        let stop = async || self.world.operator(&path, Some(&stop)).await;
                        self.world.again(stop).await;
                    }
                }
                cloud.release(&held);
                return;
            }
            Ending::ApplyLost => {
                let lost = Fault::once("POST", &apply, FaultAction::Status(500));
                cloud.set_fault(lost).unwrap();
            }
            Ending::ApplyFails => {
                let fails = Fault::once("ENGINE", "apply", FaultAction::Status(500));
                cloud.set_fault(fails).unwrap();
            }
            _ => {}
        }
        let decision = match ending.agrees() {
            true => Decision::Approve,
            false => Decision::Deny,
        };
        self.judges(run, decision).await;
    }

    /// The approver's word: said once, and handed in until somebody says that it is there.
    pub(crate) async fn judges(&self, run: &str, decision: Decision) {
        let (world, path) = (self.world, format!("/v1/approvals/{run}"));
        let question = world
            .again(async || Ok(world.operator(&path, None).await?.ok()))
            .await;
        let envelope = judgement(world, &question, decision);
        if decision == Decision::Approve {
            world.ledger.with(|held| held.agreed.insert(run.to_owned()));
        }
        let body = json!({ "envelope": envelope });
        let said = world
            .again(async || world.operator(&path, Some(&body)).await)
            .await;
        let there = ["APPROVAL_ALREADY_GIVEN", "APPROVAL_CLOSED"];
        let code = said.code();
        assert!(
            said.status.is_success() || there.contains(&code.as_str()),
            "{}",
            said.text()
        );
    }

    /// Waits until the gate stands at one of these, or at an end.
    pub(crate) async fn comes_to(&self, run: &str, states: &[&str]) -> String {
        let (world, path) = (self.world, format!("/v1/approvals/{run}"));
        let look = async || {
            let shown = world.operator(&path, None).await.ok()?;
            let state = shown.json()["state"].as_str()?.to_owned();
            let there = states.contains(&state.as_str()) || ENDS.contains(&state.as_str());
            there.then_some(state)
        };
        let what = format!("{}: {run} at {states:?}", self.name);
        world.until(&what, look).await
    }

    /// Opens a configuration version and uploads to it.
    async fn upload(&self, workspace: &str, instances: usize) -> Result<String, Lost> {
        let path = format!("/api/v2/workspaces/{workspace}/configuration-versions");
        let body = json!({"data": {"type": "configuration-versions", "attributes": {
            "auto-queue-runs": false, "speculative": false,
        }}});
        let opened = self
            .call(Method::POST, &path, JSON_API, body.to_string())
            .await?;
        let resource = opened.ok();
        self.keep_receipt(&opened, 0);
        let address = resource["data"]["attributes"]["upload-url"]
            .as_str()
            .unwrap();
        let change = sim::example_change();
        let text = sim::example_configuration()[0].1;
        let text = match instances {
            1 => text.to_owned(),
            _ => text.replace(change.from, change.to),
        };
        let put = self
            .call(Method::PUT, address, JSON, archive(&[("main.tf", &text)]))
            .await?;
        if !put.status.is_success() {
            // The address was the last gateway's.
            return Err(self.world.lost(&put.text()));
        }
        self.keep_receipt(&put, 0);
        Ok(resource["data"]["id"].as_str().unwrap().to_owned())
    }

    /// Closes the job; its bundle.
    pub(crate) async fn closes(&self) -> Vec<u8> {
        close(self.world, &self.job).await
    }

    fn keep_receipt(&self, answer: &Answer, tokens: u64) {
        let id = answer.headers["x-clawgate-receipt"]
            .to_str()
            .unwrap()
            .to_owned();
        let receipt = Receipt { id, envelope: None };
        self.world.ledger.receipt(&self.job, receipt, tokens);
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: impl Into<bytes::Bytes>,
    ) -> Result<Answer, Lost> {
        self.world
            .agent(&self.token, method, path, kind, body)
            .await
    }
}

/// Closes a job, again while an apply runs, and fetches its bundle.
pub(crate) async fn close(world: &World, job: &str) -> Vec<u8> {
    let (path, reason) = (format!("/v1/jobs/{job}/close"), json!({"reason": "done"}));
    let closed = async || {
        let closed = world.operator(&path, Some(&reason)).await.ok()?;
        let busy = closed.code() == "JOB_BUSY";
        assert!(
            closed.status.is_success() || busy,
            "{job}: {}",
            closed.text()
        );
        (!busy).then_some(())
    };
    world.until(&format!("{job} closes"), closed).await;
    let path = format!("/v1/jobs/{job}/bundle");
    let bundle = world
        .again(async || world.operator(&path, None).await)
        .await;
    bundle.ok();
    world.ledger.bundle(job, &bundle.body);
    bundle.body.to_vec()
}

/// The approver's signed word on a question.
pub(crate) fn judgement(world: &World, question: &Value, decision: Decision) -> Envelope {
    let subject: Subject = serde_json::from_value(question["subject"].clone()).unwrap();
    let statement = subject.judge(Judgement {
        decision,
        approver: world.approver.email.clone(),
        approver_did: world.approver.key.did().into(),
        issued_at: now(),
        expires_at: question["expires_at"].as_str().unwrap().parse().unwrap(),
        nonce: random_text(),
        reason: (decision == Decision::Deny).then(|| "not now".to_owned()),
    });
    let kind = EnvelopeType::ApprovalStatement;
    Envelope::sign(kind, &statement, &world.approver.key, statement.issued_at).unwrap()
}

async fn new_token(world: &World, job: &str) -> (String, String) {
    let wanted = json!({ "job_id": job });
    let issued = world.again(async || {
        let issued = world.operator("/v1/tokens", Some(&wanted)).await?;
        Ok(issued.ok())
    });
    let issued = issued.await;
    let text = |name: &str| issued[name].as_str().unwrap().to_owned();
    (text("token"), text("token_hash"))
}

/// How many questions of a job came to the model.
pub(crate) fn questions(world: &World, name: &str) -> u64 {
    let asked = world.provider.requests();
    let marker = format!("{name} question ");
    let of_job = asked.iter().filter(|request| {
        let body = serde_json::to_value(&request.body).unwrap();
        let content = body["messages"][0]["content"].as_str();
        content.is_some_and(|content| content.starts_with(&marker))
    });
    of_job.count() as u64
}

/// The receipt at the end of a stream.
fn envelope_in(stream: &str) -> Option<Envelope> {
    let mut lines = stream.lines();
    let text = lines.find_map(|line| line.strip_prefix(":clawgate_receipt_envelope_b64u="))?;
    serde_json::from_slice(&decode_b64u(text).unwrap()).ok()
}

/// Everything that a job can be, once.
pub(crate) async fn whole(world: &World, name: String, workspace: &str, ending: Ending) {
    let story = Story::open(world, name, ending).await;
    story.asks(2).await;
    story.is_refused().await;
    story.revokes().await;
    story.plans(workspace, ending).await;
    story.closes().await;
}

/// Jobs that only ask models, one after the other, until `enough`.
pub(crate) async fn asking(
    world: &World,
    who: &str,
    mut chance: Chance,
    enough: impl Fn() -> bool,
) {
    let mut n = 0;
    while !enough() {
        n += 1;
        let story = Story::open(world, format!("{who}-{n}."), Ending::PlanOnly).await;
        story.asks(1 + chance.below(MAX_CALLS + 3)).await;
        if chance.below(2) == 0 {
            story.is_refused().await;
        }
        if chance.below(3) == 0 {
            story.revokes().await;
        }
        story.closes().await;
    }
}

/// Does something while people ask and plan, by this seed, and ends when both have.
pub(crate) async fn under_load<T>(world: &World, seed: u64, work: impl Future<Output = T>) -> T {
    let mut chance = Chance::new(seed);
    let ended = std::cell::Cell::new(false);
    let enough = || ended.get();
    let (one, two) = (chance.split(), chance.split());
    let work = async {
        let done = work.await;
        ended.set(true);
        done
    };
    let ((), (), done) = tokio::join!(
        asking(world, "asker", one, enough),
        planning(world, "ws-staging-app", two, enough),
        work,
    );
    done
}

/// Waits until a call is answered that was not before.
pub(crate) async fn goes_on(world: &World) {
    let answered = || {
        let count = |held: &mut Held| held.jobs.values().map(|job| job.receipts.len()).sum();
        world.ledger.with(count)
    };
    let before: usize = answered();
    let more = async || (answered() > before).then_some(());
    world.until("a call that is answered", more).await;
}

/// Endings that do not disturb others in the same world.
const ANY: [Ending; 10] = [
    Ending::Applied,
    Ending::Applied,
    Ending::Applied,
    Ending::Applied,
    Ending::Denied,
    Ending::PlanOnly,
    Ending::Violates,
    Ending::PlanReplaced,
    Ending::Stopped,
    Ending::ApplyLost,
];

/// Jobs that plan, one after the other, until `enough`.
pub(crate) async fn planning(
    world: &World,
    workspace: &str,
    mut chance: Chance,
    enough: impl Fn() -> bool,
) {
    let mut n = 0;
    while !enough() {
        n += 1;
        let ending = *chance.of(&ANY);
        let story = Story::open(world, format!("{workspace}-{n}."), ending).await;
        if chance.below(3) == 0 {
            story.asks(1).await;
        }
        story.plans(workspace, ending).await;
        story.closes().await;
    }
}
