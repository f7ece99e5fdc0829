//! The log's static files: are they there, and are they those of this log?

use store::Store;

use super::super::failure::chain;
use super::Report;
use crate::config::Config;
use crate::keys::Keys;
use crate::tlog::{Place, TlogError, compare};
use crate::upstream::http_client;

/// Compares the published checkpoint with the store.
pub(super) async fn published(
    config: &Config,
    store: Option<&dyn Store>,
    keys: Option<&Keys>,
    report: &mut Report,
) {
    let Some(tiles) = &config.log.tiles else {
        return;
    };
    // What is wrong with the store or the keys has its own line.
    let (Some(store), Some(keys)) = (store, keys) else {
        return;
    };
    let place = tiles.name();
    let published = match http_client(config) {
        Ok(http) => Place::of(config, &http).await,
        Err(error) => Err(error),
    };
    let published = match published {
        Ok(Some(published)) => published,
        Ok(None) => return,
        Err(error) => {
            let advice = "correct the credentials in log.tiles";
            report.problem("log", format!("`{place}`: {error:#}"), advice);
            return;
        }
    };
    match compare(store, config, keys, &published).await {
        Ok(Some(size)) => report.ok("log", format!("published in `{place}` up to size {size}")),
        Ok(None) => report.warn(
            "log",
            format!("nothing is published in `{place}` yet"),
            "the gateway writes there while it runs: start it by `clawgate serve`",
        ),
        Err(error @ TlogError::Forked(_)) => report.problem(
            "log",
            format!("`{place}`: {error}"),
            "find out which of the two was changed: a store that was restored from an old backup \
             must not go on under the same keys",
        ),
        Err(error) => report.problem(
            "log",
            chain(&error),
            format!("make `{place}` writable for the gateway"),
        ),
    }
}
