//! The Terraform Cloud API as a gateway must see it.
//!
//! [`ParsedTarget::parse`] turns a request line into a [`Call`] with typed ids or a refusal;
//! [`rewrite`] turns request bodies into checked ones; [`answer`] reduces what upstream answers to
//! what an agent may see.

pub mod answer;
mod call;
mod class;
pub mod ids;
pub mod mask;
mod operation;
mod query;
pub mod rewrite;
mod routes;
mod target;

pub use call::{Call, Object};
pub use class::Class;
pub use operation::{Effect, ObjectKind, Operation, Target, UnknownOperation};
pub use query::{Include, LogRange, Query};
pub use routes::{Method, Route, routes, template_of};
pub use target::{MAX_TARGET, ParsedTarget};
