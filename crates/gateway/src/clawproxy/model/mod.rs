//! stub
#![allow(missing_docs)]
use http::request::Parts;
use hyper::body::Incoming;
use std::sync::Arc;
use policy::{DecisionInput, Refusal};
use crate::{app::App, config::{Config,Dialect}, live::LiveToken, server::Body};
/// stub
pub struct Providers;
impl Providers { pub async fn connect(_c:&Config,_h:crate::upstream::HttpClient)->Result<Self,crate::secret::SecretError>{Ok(Self)} }
/// stub
#[derive(Debug)]
pub struct ModelCall { pub input: DecisionInput<'static> }
impl ModelCall { pub fn planned(&self, _t: Option<String>) -> super::record::Planned<'_> { todo!() } }
pub async fn resolve(_a: &App, _t: &LiveToken, _p: &Parts, _b: Incoming, _asked: &mut super::Asked) -> Result<ModelCall, Refusal> { todo!() }
pub async fn forward(_a: &Arc<App>, _c: &super::authenticate::Caller, _p: super::record::Permit, _call: ModelCall) -> http::Response<Body> { todo!() }
pub fn refusal_response(_d: Dialect, _r: &Refusal) -> http::Response<Body> { todo!() }
