//! Files that pages load: part of the program, named after their content.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use policy::ReasonCode;
use proof::Hash;

use crate::operator::Problem;

/// A file.
pub struct Asset {
    /// Its name, with a part of its hash: another content has another name.
    pub name: String,
    kind: &'static str,
    /// What is in it.
    pub content: &'static str,
}

impl Asset {
    fn new(name: &str, ending: &str, kind: &'static str, content: &'static str) -> Self {
        let hash = Hash::of(content.as_bytes()).to_hex();
        Self {
            name: format!("{name}-{}.{ending}", &hash[..16]),
            kind,
            content,
        }
    }
}

/// The style sheet of all pages.
pub static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    let content = include_str!("../../assets/style.css");
    Asset::new("style", "css", "text/css; charset=utf-8", content)
});

/// The picture in the browser's tab.
pub static ICON: LazyLock<Asset> = LazyLock::new(|| {
    let content = include_str!("../../assets/icon.svg");
    Asset::new("icon", "svg", "image/svg+xml", content)
});

/// The script that checks bundles in a browser, in the order in which its parts build on each
/// other; the page's form comes last.
pub const CHECK_SOURCE: &str = concat!(
    include_str!("../../assets/check/json.js"),
    include_str!("../../assets/check/keys.js"),
    include_str!("../../assets/check/shapes.js"),
    include_str!("../../assets/check/report.js"),
    include_str!("../../assets/check/document.js"),
    include_str!("../../assets/check/keysets.js"),
    include_str!("../../assets/check/records.js"),
    include_str!("../../assets/check/seals.js"),
    include_str!("../../assets/check/seen.js"),
    include_str!("../../assets/check/approvals.js"),
    include_str!("../../assets/check/check.js"),
    include_str!("../../assets/check/page.js"),
);

/// The same, as a file.
pub static CHECK: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new(
        "check",
        "js",
        "text/javascript; charset=utf-8",
        CHECK_SOURCE,
    )
});

/// One file. Nothing in it is secret, and its name says all about its content, so that browsers
/// may keep it.
pub async fn asset(Path(name): Path<String>) -> Result<Response, Problem> {
    let mut assets = [&STYLE, &ICON, &CHECK].into_iter();
    let found = assets.find(|asset| asset.name == name);
    let asset = found.ok_or(ReasonCode::PageUnknown)?;
    let headers = [
        (header::CONTENT_TYPE, asset.kind),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'"),
    ];
    let headers = headers.map(|(name, value)| (name, HeaderValue::from_static(value)));
    Ok((headers, asset.content).into_response())
}
