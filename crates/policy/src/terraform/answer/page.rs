//! Pages of lists.

use std::ops::Range;

use proof::json::Json;

use crate::terraform::query::Query;

/// Elements that a page holds when upstream is not told.
const PAGE_SIZE: u32 = 20;

/// Which elements of `total` a client's page holds.
pub fn page_range(query: &Query, total: usize) -> Range<usize> {
    let (number, size) = page_of(query);
    let start = (number - 1).saturating_mul(size).min(total);
    start..start.saturating_add(size).min(total)
}

/// A page of a list that was put together here, with its own numbers.
pub fn page(query: &Query, elements: Vec<Json>, total: usize) -> Json {
    let (number, size) = page_of(query);
    let pages = total.div_ceil(size).max(1);
    let integer = |n: usize| Json::Integer(i64::try_from(n).unwrap_or(i64::MAX));
    let neighbour = |there: bool, n: usize| if there { integer(n) } else { Json::Null };
    let mut pagination = Json::object();
    pagination.set("current-page", integer(number));
    pagination.set("page-size", integer(size));
    pagination.set("prev-page", neighbour(number > 1, number - 1));
    pagination.set("next-page", neighbour(number < pages, number + 1));
    pagination.set("total-pages", integer(pages));
    pagination.set("total-count", integer(total));
    let mut meta = Json::object();
    meta.set("pagination", pagination);
    let mut list = Json::object();
    list.set("data", Json::Array(elements));
    list.set("meta", meta);
    list
}

fn page_of(query: &Query) -> (usize, usize) {
    let number = query.page_number.unwrap_or(1) as usize;
    let size = query.page_size.unwrap_or(PAGE_SIZE) as usize;
    (number.max(1), size.max(1))
}

/// Page numbers, and totals when nothing was left out: they would tell of it. Lists that span
/// workspaces are counted here, by [`page`].
pub(super) fn pagination(answer: &Json, complete: bool) -> Option<Json> {
    let written = answer.at(&["meta", "pagination"])?;
    let mut kept = Json::object();
    for name in [
        "current-page",
        "prev-page",
        "next-page",
        "total-pages",
        "total-count",
        "page-size",
    ] {
        if name.starts_with("total") && !complete {
            continue;
        }
        match written.get(name) {
            Some(value @ (Json::Integer(_) | Json::Null)) => kept.set(name, value.clone()),
            _ => continue,
        }
    }
    Some(kept)
}
