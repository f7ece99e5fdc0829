//! Budgets of money, judged on the estimates of a stand-in that prices a small table of types.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use store::GateState;

use crate::evidence::refusals;
use crate::world::{Setup, World};

/// A workspace whose every object costs 12.50 USD a month, under a contract with this budget: the
/// example goes from 3 objects to 4.
async fn priced(budget: &Value) -> World {
    priced_at(&[("terraform_data", 12_500_000)], budget).await
}

async fn priced_at(prices: &[(&str, u64)], budget: &Value) -> World {
    let mut setup = Setup::new().contract("/permissions/cost", budget.clone());
    let prices = prices
        .iter()
        .map(|(kind, price)| ((*kind).to_owned(), *price));
    setup.cloud.prices = Some(prices.collect::<BTreeMap<_, _>>());
    setup.start().await
}

#[tokio::test]
async fn a_plan_within_the_budget_is_put_to_the_approver_with_its_price() {
    let budget = json!({"max_monthly_delta_usd": "12.5", "max_monthly_total_usd": "50.00"});
    let world = priced(&budget).await;
    let run = world.agent().held_run().await;
    let path = format!("/v1/approvals/{run}");
    let question = world.operator().get(&path).await.ok();
    assert_eq!(question["subject"]["cost"], "12.50", "{question:#}");
    world.approve(&run).await;
    world.run_at(&run, GateState::Applied).await;
    let estimate = estimate(&world, &run).await;
    let attributes = &estimate["data"]["attributes"];
    assert_eq!(attributes["delta-monthly-cost"], "12.5", "{estimate:#}");
    world.valid_evidence().await;
}

/// The run's estimate as the agent reads it, by its own id.
async fn estimate(world: &World, run: &str) -> Value {
    let read = world.agent().get(&format!("/api/v2/runs/{run}")).await.ok();
    let id = read["data"]["relationships"]["cost-estimate"]["data"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let agent = world.agent();
    agent
        .get(&format!("/api/v2/cost-estimates/{id}"))
        .await
        .ok()
}

#[tokio::test]
async fn an_estimate_is_known_to_be_the_jobs_after_a_restart() {
    let setup = Setup::new().restartable();
    let mut setup = setup.contract("/permissions/cost", json!({"max_monthly_total_usd": "50"}));
    setup.cloud.prices = Some([("terraform_data".to_owned(), 12_500_000)].into());
    let mut world = setup.start().await;
    let run = world.agent().held_run().await;
    let before = estimate(&world, &run).await;
    let id = before["data"]["id"].as_str().unwrap();
    let path = format!("/api/v2/cost-estimates/{id}");
    world.restart().await;
    assert_eq!(world.agent().get(&path).await.ok(), before);
    let agent = world.agent();
    let unknown = agent
        .get("/api/v2/cost-estimates/ce-0000000000000001")
        .await;
    assert_eq!(unknown.code(), "OBJECT_UNKNOWN");
}

#[tokio::test]
async fn plans_beyond_the_budget_are_discarded() {
    let all = [("terraform_data", 12_500_000)];
    for (prices, budget, code) in [
        (
            &all[..],
            json!({"max_monthly_delta_usd": "12.499999"}),
            "COST_DELTA",
        ),
        (
            &all[..],
            json!({"max_monthly_total_usd": "49.99"}),
            "COST_TOTAL",
        ),
        // Nothing has a price.
        (
            &[],
            json!({"max_monthly_total_usd": "1000"}),
            "COST_UNPRICED",
        ),
    ] {
        let world = priced_at(prices, &budget).await;
        let upload = world.agent().upload().await;
        let wish = json!({"auto-apply": true});
        let made = world.agent().run(&upload, &wish).await.ok();
        let run = made["data"]["id"].as_str().unwrap();
        let ended = world.run_at(run, GateState::Discarded).await;
        assert!(ended.gate_reason.unwrap().contains(code), "{budget}");
        assert!(world.asked("POST", "/actions/apply").is_empty(), "{budget}");
        let bundle = world.valid_evidence().await;
        assert!(
            refusals(&bundle).iter().any(|said| said == code),
            "{budget}"
        );
    }
}

#[tokio::test]
async fn what_has_no_price_may_be_left_to_the_approver() {
    let budget = json!({"max_monthly_total_usd": "1000", "unpriced": "approve"});
    let world = priced_at(&[], &budget).await;
    world.agent().held_run().await;
    // No estimate at all is the same: the workspace's organization makes none.
    let setup = Setup::new().contract("/permissions/cost", budget);
    let world = setup.start().await;
    let run = world.agent().held_run().await;
    let path = format!("/v1/approvals/{run}");
    let question = world.operator().get(&path).await.ok();
    assert_eq!(question["subject"]["cost"], Value::Null, "{question:#}");
}

#[tokio::test]
async fn a_budget_needs_an_estimate_unless_it_says_otherwise() {
    let budget = json!({"max_monthly_total_usd": "1000"});
    let setup = Setup::new().contract("/permissions/cost", budget);
    let world = setup.start().await;
    let upload = world.agent().upload().await;
    let wish = json!({"auto-apply": true});
    let made = world.agent().run(&upload, &wish).await.ok();
    let run = made["data"]["id"].as_str().unwrap();
    let ended = world.run_at(run, GateState::Discarded).await;
    assert!(ended.gate_reason.unwrap().contains("COST_UNKNOWN"));
}
