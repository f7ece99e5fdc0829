//! The gateway as an attacker meets it: a hijacked agent, somebody who found a token, somebody on
//! the same network. Everything is tried for real, over raw sockets, against a whole installation
//! on loopback; the simulators' request logs show what reached upstream.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod answers;
mod applies;
mod archives;
mod bad_input;
mod bodies;
mod bounds;
mod catalogue;
mod credentials;
mod egress;
mod flow;
mod framing;
mod models;
mod ownership;
mod paths;
mod people;
mod poison;
mod races;
mod rig;
mod routes;
mod scopes;
mod scripted;
mod uploads;
mod wire;
