//! Every metric that there is. What is not in this table cannot be written; a test compares it with
//! the one in `docs/metrics.md`, and another the dashboard with it.

/// What a family's numbers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, from the start of the process.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How often something took how long.
    Histogram,
}

impl Kind {
    /// As the text format has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric with its labels.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// What its numbers do.
    pub kind: Kind,
    /// Its labels, in order. Their values come from tables in the code and from the names of
    /// providers in the configuration, never from a request.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

macro_rules! families {
    ($($constant:ident $kind:ident $name:literal [$($label:literal)*] $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: Family = Family {
            name: $name,
            kind: Kind::$kind,
            labels: &[$($label),*],
            help: $help,
        };)*

        /// Every family, in the order in which they are written.
        pub const ALL: &[&Family] = &[$(&$constant),*];
    };
}

families! {
    BUILD_INFO Gauge "clawgate_build_info" ["version"] "1, for the version that runs.";
    START_TIME Gauge "clawgate_start_time_seconds" [] "When the process began to serve, in seconds since 1970.";
    CALLS Counter "clawgate_calls_total" ["lane" "class" "code"] "Calls of agents by what was decided: ALLOWED, or the reason code of the refusal.";
    CALL_ENDS Counter "clawgate_call_ends_total" ["lane" "ended"] "Ends of calls that were allowed, as their outcomes say.";
    OVERHEAD Histogram "clawgate_overhead_seconds" ["lane"] "The gateway's own part of an allowed call, until the head of its answer: everything but the waits for upstream.";
    UPSTREAM Histogram "clawgate_upstream_seconds" ["lane"] "Waits for upstream within an allowed call, with its turns under upstream's limits, until the head of its answer.";
    MODEL_CALLS Gauge "clawgate_model_calls_open" [] "Model calls whose outcome has not been handed in.";
    MODEL_STREAMS Gauge "clawgate_model_streams_open" [] "Of these, those that are being answered by a stream of events.";
    OPERATOR_STREAMS Gauge "clawgate_operator_streams_open" [] "Answers of the operator listener that go on, such as exports that follow.";
    MODEL_REQUESTS Counter "clawgate_model_requests_total" ["provider" "result"] "Requests to model providers by how they were answered.";
    MODEL_TOKENS Counter "clawgate_model_tokens_total" ["provider" "direction"] "Tokens of recorded model calls, in requests and in answers.";
    MODEL_SPEND Counter "clawgate_model_spend_usd_total" ["provider"] "What those calls cost by the configured prices, in US dollars; where nobody knows exactly, at least.";
    CLOUD_REQUESTS Counter "clawgate_terraform_cloud_requests_total" ["result"] "Requests to Terraform Cloud by how they were answered; shed ones found too many waiting for its limits and were not sent.";
    STORE_UP Gauge "clawgate_store_up" [] "Whether the store answered and took the last record: 1, or 0.";
    STORE_COMMITS Counter "clawgate_store_commits_total" [] "Commits of this process.";
    STORE_WRITE Histogram "clawgate_store_write_seconds" [] "From handing a record in until it is durable, where a call waited for that.";
    STORE_QUEUE Gauge "clawgate_store_queue_depth" [] "Writes that wait for the store's writer.";
    LOG_SIZE Gauge "clawgate_log_size" [] "Leaves of the log.";
    LOG_PUBLISHED Gauge "clawgate_log_published_size" [] "Leaves of the log that are published as static files; left out while nothing is.";
    LOG_PUBLISHING Gauge "clawgate_log_publishing" ["state"] "1 for how publishing the log stands: off, starting, published, failing or forked.";
    BUNDLES_PENDING Gauge "clawgate_bundles_pending" [] "Closed jobs whose bundles are not sealed yet: they wait for witnesses or a timestamp that their contracts ask for, or it failed and is tried again.";
    RUNS Gauge "clawgate_runs" ["gate"] "Runs that have not ended, by where they stand at the gate.";
    APPROVALS_WAITING Gauge "clawgate_approvals_waiting" [] "Plans that wait for a person.";
    APPROVALS_OLDEST Gauge "clawgate_approval_oldest_seconds" [] "How long the oldest of them has waited; 0 without any.";
    BUNDLES Counter "clawgate_bundles_sealed_total" [] "Bundles that this process has sealed.";
    SPANS_DROPPED Counter "clawgate_spans_dropped_total" [] "Spans that no collector has got: too many waited, or it did not take them.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    fn read(path: &str) -> String {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        std::fs::read_to_string(root.join(path)).unwrap()
    }

    #[test]
    fn the_documented_table_is_this_one() {
        let documented = read("docs/metrics.md");
        let documented: Vec<&str> = documented
            .lines()
            .filter(|line| line.starts_with("| `clawgate_") && line.matches('|').count() == 5)
            .collect();
        let ours: Vec<String> = ALL
            .iter()
            .map(|family| {
                let labels: Vec<String> = family.labels.iter().map(|l| format!("`{l}` ")).collect();
                let (name, kind) = (family.name, family.kind.as_str());
                format!(
                    "| `{name}` | {kind} | {}| {} |",
                    labels.concat(),
                    family.help
                )
            })
            .collect();
        assert_eq!(documented, ours);
    }

    #[test]
    fn names_are_as_prometheus_wants_them() {
        let names: BTreeSet<&str> = ALL.iter().map(|family| family.name).collect();
        assert_eq!(names.len(), ALL.len(), "each once");
        for family in ALL {
            let counts = family.name.ends_with("_total");
            assert_eq!(counts, family.kind == Kind::Counter, "{}", family.name);
            let times = family.name.ends_with("_seconds");
            assert!(times || family.kind != Kind::Histogram, "{}", family.name);
        }
    }

    /// Every metric that a query of the dashboard names, and every label that it groups by.
    #[test]
    fn the_dashboard_asks_for_what_there_is() {
        let dashboard: serde_json::Value =
            serde_json::from_str(&read("packaging/grafana/clawgate.json")).unwrap();
        let mut shown = BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().unwrap() {
                let query = target["expr"].as_str().unwrap();
                let unknown = unknown_names(query, &mut shown);
                assert_eq!(unknown, Vec::<&str>::new(), "{query}");
            }
        }
        let all: BTreeSet<&str> = ALL.iter().map(|family| family.name).collect();
        assert_eq!(shown, all, "the dashboard shows each of them");
    }

    /// Words of a query that are neither PromQL nor ours; ours are collected.
    fn unknown_names<'a>(query: &'a str, shown: &mut BTreeSet<&'static str>) -> Vec<&'a str> {
        const WORDS: [&str; 13] = [
            "sum",
            "min",
            "max",
            "by",
            "rate",
            "increase",
            "histogram_quantile",
            "time",
            "le",
            "instance",
            "__rate_interval",
            "1d",
            "1h",
        ];
        // What stands in quotes is a value.
        let bare = query.split('"').step_by(2);
        let words = bare.flat_map(|part| part.split(|c: char| !c.is_alphanumeric() && c != '_'));
        let words = words.filter(|word| word.parse::<f64>().is_err() && !word.is_empty());
        let labels: BTreeSet<&str> = ALL.iter().flat_map(|f| f.labels.iter().copied()).collect();
        words
            .filter(|word| {
                let family = ALL.iter().find(|family| {
                    let series = match family.kind {
                        Kind::Histogram => format!("{}_bucket", family.name),
                        Kind::Counter | Kind::Gauge => family.name.to_owned(),
                    };
                    series == *word
                });
                shown.extend(family.map(|family| family.name));
                family.is_none() && !WORDS.contains(word) && !labels.contains(word)
            })
            .collect()
    }

    #[test]
    fn a_query_for_something_else_would_be_found() {
        let mut shown = BTreeSet::new();
        for (query, unknown) in [
            ("sum(clawgate_runs{instance=~\"$instance\"})", &[][..]),
            ("sum by (gate) (clawgate_run)", &["clawgate_run"]),
            (
                "clawgate_store_write_seconds",
                &["clawgate_store_write_seconds"],
            ),
            ("rate(clawgate_calls_total{job_id=\"a\"}[1h])", &["job_id"]),
        ] {
            assert_eq!(unknown_names(query, &mut shown), unknown, "{query}");
        }
    }
}
