//! What an agent asked models, shown to approvers where the contract says so, and then gone.

use std::path::{Path, PathBuf};

use clawgate::app::now;
use policy::terraform::mask::Marked;
use serde_json::json;

use crate::client::Caller;
use crate::world::{APP, Setup, World};

const SAID: &str = "Resize the fleet because the quarterly report says so";
const KEY: &str = "AKIAQ3EGXMPLE7TESTAB";

impl World {
    /// The agent asks a model and wants a plan applied; nobody has decided.
    async fn asked_run(&self) -> String {
        let agent = self.agent();
        let said = format!("{SAID}, with the key {KEY} <script>alert(1)</script>");
        let chat = json!({"model": "gpt-5", "user": "private-name", "messages": [
            {"role": "system", "content": "the operator's own words"},
            {"role": "user", "content": said},
        ]});
        let plain = [("content-type", "application/json")];
        let path = "/openai/v1/chat/completions";
        let chat = chat.to_string();
        let asked = agent.call(http::Method::POST, path, &plain, &chat);
        asked.await.ok();
        agent.held_run().await
    }

    /// The plan's page, as an operator sees it.
    async fn page(&self, place: &str, run: &str) -> String {
        self.operator().get(&format!("/{place}/{run}")).await.text()
    }

    /// Files below the gateway's folder that hold a text.
    fn files_with(&self, text: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.config.data_dir.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if holds(&path, text) {
                    found.push(path);
                }
            }
        }
        found
    }
}

fn holds(path: &Path, text: &str) -> bool {
    let bytes = std::fs::read(path).unwrap_or_default();
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

#[tokio::test]
async fn what_an_agent_asked_is_shown_to_approvers_for_its_time_only() {
    let models = json!({
        "providers": ["openai"], "allowed": ["*"], "show_prompts_days": 7,
        "redact": [{"path": "user", "action": "remove"}],
    });
    let world = Setup::new().contract("/models", models).start().await;
    let run = world.asked_run().await;
    let plan = world.page("approvals", &run).await;
    let hidden = format!("with the key AKIA{}", "*".repeat(16));
    assert!(plan.contains(SAID) && plan.contains(&hidden), "{plan}");
    assert!(plan.contains("The end of what the agent asked, in its words. It is not checked"));
    for never in [
        KEY,
        "<script>alert",
        "private-name",
        "the operator&#39;s own words",
    ] {
        assert!(!plan.contains(never), "{never}: {plan}");
    }
    assert!(world.page("trust-pulse/runs", &run).await.contains(SAID));
    // An open page is for anybody on this machine, and the agent's words are not.
    let url = format!("http://{}", world.gateway().operator_address);
    let open = Caller::new(&url, None);
    let open = open.get(&format!("/trust-pulse/runs/{run}")).await;
    assert!(open.status.is_success() && !open.text().contains(SAID));
    // One file has it, and nothing that an agent or an auditor reads.
    let file = world.config.data_dir.join(format!("prompts/{run}.json"));
    assert_eq!(world.files_with(SAID), std::slice::from_ref(&file));
    assert_eq!(world.files_with(KEY), Vec::<PathBuf>::new());
    assert!(
        !world
            .agent()
            .get("/v1/job/runs")
            .await
            .text()
            .contains(SAID)
    );

    world.approve(&run).await;
    world.run_at(&run, store::GateState::Applied).await;
    let (prompts, store) = (&world.app().prompts, &*world.app().store);
    let held = &world.app().held;
    let in_days = |days: i64| now().plus_seconds(days * 86_400 + 60);
    assert_eq!(prompts.forget(store, held, in_days(6)).await.unwrap(), 0);
    let row = store.run(&run).await.unwrap().unwrap();
    assert!(prompts.of_run(&row, in_days(6)).await.is_some());
    // Its time is over, though nobody has looked at the folder yet.
    assert!(prompts.of_run(&row, in_days(7)).await.is_none());
    // A hold keeps the file, and shows it to nobody.
    let hold = store.hold(&row.job_id, "eve", "a lawsuit", now());
    let hold = hold.await.unwrap().unwrap();
    assert_eq!(prompts.forget(store, held, in_days(7)).await.unwrap(), 0);
    let lifted = store.lift_hold(&row.job_id, hold, "eve", "settled", now());
    assert!(lifted.await.unwrap());
    assert_eq!(prompts.forget(store, held, in_days(7)).await.unwrap(), 1);
    assert_eq!(world.files_with(SAID), Vec::<PathBuf>::new());
    assert!(!world.page("approvals", &run).await.contains(SAID));
    let bundle = serde_json::to_string(&world.valid_evidence().await).unwrap();
    assert!(!bundle.contains(SAID));
}

#[tokio::test]
async fn what_an_agent_asked_is_not_kept_where_the_contract_does_not_say_so() {
    let world = Setup::new().start().await;
    let run = world.asked_run().await;
    let plan = world.page("approvals", &run).await;
    assert!(
        plan.contains("What the agent asked a model just before"),
        "{plan}"
    );
    assert!(!plan.contains(SAID), "{plan}");
    assert_eq!(world.files_with(SAID), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn what_the_plan_marks_later_is_masked_in_what_was_asked_before() {
    let models = json!({"providers": ["openai"], "allowed": ["*"], "show_prompts_days": 7});
    let world = Setup::new().contract("/models", models).start().await;
    let run = world.asked_run().await;
    assert!(world.page("approvals", &run).await.contains(SAID));
    let plan = world.run(&run).await.plan_id.unwrap();
    let word = SAID.split(' ').max_by_key(|word| word.len()).unwrap();
    let marked = Marked::Values([word.to_owned()].into_iter().collect());
    world.app().sensitive.learn(APP, &plan, &marked);
    for place in ["approvals", "trust-pulse/runs"] {
        assert!(!world.page(place, &run).await.contains(word), "{place}");
    }
    world.app().sensitive.learn(APP, &plan, &Marked::TooMany);
    for place in ["approvals", "trust-pulse/runs"] {
        let text = world.page(place, &run).await;
        assert!(
            SAID.split(' ')
                .all(|word| word.len() < 6 || !text.contains(word)),
            "{place}"
        );
    }
}
