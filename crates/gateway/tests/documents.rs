//! `docs/openapi.json` is made from the routes and their handlers. `cargo xtask docs` writes it;
//! without it this test compares.

use std::path::Path;

#[test]
fn the_operator_api_is_documented_as_it_is() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let mut document =
        serde_json::to_string_pretty(&clawgate::operator::openapi::document()).unwrap();
    document.push('\n');
    if std::env::var_os("CLAWGATE_REGENERATE").is_some() {
        std::fs::write(&file, &document).unwrap();
    }
    let there = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        there == document,
        "docs/openapi.json is stale: run `cargo xtask docs`"
    );
}
