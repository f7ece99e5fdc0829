//! `clawgate routes`: the table that decides which calls can reach Terraform Cloud at all.

use clap::Args;
use policy::terraform::{Class, Route};
use serde_json::{Value, json};

use super::Failure;
use super::term;

/// Prints the route table of the Terraform lane
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  clawgate routes --class read-state
  clawgate routes --forwarded
  clawgate routes --json

A route with an operation is forwarded when the contract allows it; every other one is refused
with the code of its class, and what is not in the table with ROUTE_UNKNOWN.")]
pub(super) struct Routes {
    /// Only routes of this class
    #[arg(long, value_name = "CLASS", value_parser = class)]
    class: Option<Class>,
    /// Only routes that the gateway forwards
    #[arg(long)]
    forwarded: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn class(text: &str) -> Result<Class, String> {
    text.parse().map_err(|()| {
        let names: Vec<&str> = Class::ALL.iter().map(|class| class.as_str()).collect();
        format!("not a class; the classes are {}", names.join(", "))
    })
}

impl Routes {
    pub(super) fn run(self) -> Result<(), Failure> {
        let chosen: Vec<&Route> = policy::terraform::routes()
            .filter(|route| self.class.is_none_or(|class| route.class == class))
            .filter(|route| !self.forwarded || route.operation.is_some())
            .collect();
        if self.json {
            let all: Vec<Value> = chosen.iter().map(|route| as_json(route)).collect();
            term::print_json(&all.into());
            return Ok(());
        }
        let rows: Vec<Vec<String>> = chosen
            .iter()
            .map(|route| {
                vec![
                    method(route).to_owned(),
                    route.template.to_owned(),
                    route.class.as_str().to_owned(),
                    fate(route),
                ]
            })
            .collect();
        term::print_table(
            &["method", "path", "class", "forwarded as, or refused with"],
            &rows,
            "none",
        );
        Ok(())
    }
}

fn method(route: &Route) -> &'static str {
    route.method.map_or("*", |method| method.as_str())
}

fn fate(route: &Route) -> String {
    match route.operation {
        Some(operation) => operation.name().to_owned(),
        None => route.class.refusal().to_string(),
    }
}

fn as_json(route: &Route) -> Value {
    let refusal = route
        .operation
        .is_none()
        .then(|| route.class.refusal().as_str());
    json!({
        "method": method(route),
        "path": route.template,
        "class": route.class.as_str(),
        "operation": route.operation.map(|operation| operation.name()),
        "refused_with": refusal,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_route_is_forwarded_or_refused_with_a_code() {
        for route in policy::terraform::routes() {
            let json = as_json(route);
            assert_eq!(
                json["operation"].is_null(),
                json["refused_with"].is_string()
            );
            assert!(class(json["class"].as_str().unwrap()).is_ok());
        }
        assert!(class("read-states").unwrap_err().contains("read-state,"));
    }
}
