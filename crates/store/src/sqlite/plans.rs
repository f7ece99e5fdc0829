//! How the engine means to answer a query: lists must stay fast however much there is.

use rusqlite::Connection;

use super::schema;
use crate::sql::connection::Value;

/// Tables that grow with use.
const LARGE: [&str; 8] = [
    "jobs",
    "records",
    "leaves",
    "runs",
    "tokens",
    "receipts",
    "statements",
    "plan_objects",
];

/// Asserts that a query reads no large table from end to end. A walk along an index, or along
/// the table's own order, that stops at the limit is no such thing: it is written `SCAN`, too, so
/// a query that is to be answered so says in `walks` which tables it may walk.
pub(crate) fn assert_plan(sql: &str, values: &[Value<'_>], walks: &[&str]) {
    let steps = steps(sql, values);
    for step in &steps {
        let scanned = step.strip_prefix("SCAN ");
        let table = scanned.and_then(|rest| rest.split(' ').next());
        // `gate = …` and the like in a partial index are the condition itself.
        let partial = [
            "runs_waiting",
            "jobs_applied",
            "jobs_denied",
            "jobs_refused",
        ]
        .iter()
        .any(|index| step.contains(index));
        if let Some(table) = table.filter(|table| LARGE.contains(table)) {
            assert!(
                partial || walks.contains(&table),
                "{sql}\nreads all of {table}: {steps:#?}"
            );
        }
        assert!(
            !step.contains("USE TEMP B-TREE"),
            "{sql}\nsorts what it finds: {steps:#?}"
        );
    }
}

/// The same for a query that walks along nothing.
pub(crate) fn assert_no_scan(sql: &str, values: &[Value<'_>]) {
    assert_plan(sql, values, &[]);
}

/// The step that a query begins with.
pub(crate) fn leads(sql: &str, values: &[Value<'_>]) -> String {
    steps(sql, values).swap_remove(0)
}

fn steps(sql: &str, values: &[Value<'_>]) -> Vec<String> {
    let mut connection = Connection::open_in_memory().unwrap();
    schema::migrate(&mut connection).unwrap();
    let mut explained = connection
        .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
        .unwrap();
    let values = rusqlite::params_from_iter(values);
    let steps = explained.query_map(values, |row| row.get::<_, String>("detail"));
    steps.unwrap().map(Result::unwrap).collect()
}
