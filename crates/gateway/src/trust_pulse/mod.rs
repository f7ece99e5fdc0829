//! stub
use std::sync::Arc;
/// stub
pub fn router() -> axum::Router<Arc<crate::app::App>> { axum::Router::new() }
