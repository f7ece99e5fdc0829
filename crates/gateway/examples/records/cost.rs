//! Processor time of the gateway, by the kernel's account.

use std::fs;
use std::path::Path;

use crate::server::Schema;

/// Nanoseconds so far of the gateway's threads, of either store, and of the sessions that the
/// server has for this one.
pub(crate) fn nanos(schema: Option<&Schema>) -> u64 {
    let main = std::process::id().to_string();
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let own: u64 = tasks
        .map(|task| task.unwrap())
        .filter(|task| task.file_name() != *main && !is_client(&task.path()))
        .map(|task| ran(&task.path()))
        .sum();
    own + schema.map_or(0, sessions)
}

fn is_client(task: &Path) -> bool {
    // One that has ended meanwhile has no name, and no time either.
    let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
    name.trim() == "client"
}

fn sessions(schema: &Schema) -> u64 {
    let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = $1";
    let rows = schema.with(|client| client.query(sql, &[&schema.name()]).unwrap());
    let pid = |row: &postgres::Row| row.get::<_, i32>(0);
    rows.iter()
        .map(|row| ran(Path::new(&format!("/proc/{}", pid(row)))))
        .sum()
}

/// The first number: time on a processor. What has ended meanwhile counts as nothing.
fn ran(task: &Path) -> u64 {
    let text = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
    let first = text.split(' ').next().unwrap_or_default();
    first.parse().unwrap_or(0)
}
