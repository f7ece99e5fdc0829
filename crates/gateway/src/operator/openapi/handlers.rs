//! What a handler takes and answers, read from its type. So the document cannot say anything else
//! than what the handler does, and a handler of which nothing can be said does not compile.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use policy::terraform::ids::{RunId, WorkspaceId};
use proof::Hash;
use proof::record::JobId;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::operator::credential::Operator;
use crate::operator::extract::{FormOrJson, Id, Params, Strict};
use crate::operator::notices::Name;
use crate::operator::problem::Problem;
use crate::operator::streaming::Standing;
use crate::run_tasks::Signed;
use crate::shapes;
use crate::watching::notification::Notification;

/// What is known of one operation, while its handler's type is read.
pub(crate) struct Reading<'a> {
    /// Makes schemas of what is sent to us.
    pub(super) sent: &'a mut SchemaGenerator,
    /// Makes schemas of what we answer.
    pub(super) answered: &'a mut SchemaGenerator,
    /// The name of the path's variable part.
    pub(super) variable: Option<&'a str>,
    /// Parameters of path and query.
    pub(super) parameters: Vec<Value>,
    /// The body that is taken.
    pub(super) body: Option<Value>,
    /// The answer's bodies by media type; empty for an answer without one.
    pub(super) content: Map<String, Value>,
}

/// Says what a handler takes and answers.
pub(crate) type Describe = fn(&mut Reading<'_>);

/// A handler that can be described; `T` is the same as in [`axum::handler::Handler`].
pub(crate) trait Described<T> {
    /// Says it.
    fn describe(reading: &mut Reading<'_>);
}

/// Something that a handler takes.
pub(crate) trait Taken {
    /// Says it.
    fn taken(reading: &mut Reading<'_>);
}

/// Something that a handler answers when all is well.
pub(crate) trait Answered {
    /// Says it.
    fn answered(reading: &mut Reading<'_>);
}

macro_rules! described {
    ($($part:ident)*) => {
        impl<F, Answering, Answer, Marker, $($part,)*> Described<(Marker, $($part,)*)> for F
        where
            F: Fn($($part),*) -> Answering,
            Answering: Future<Output = Answer>,
            Answer: Answered,
            $($part: Taken,)*
        {
            fn describe(reading: &mut Reading<'_>) {
                $($part::taken(reading);)*
                Answer::answered(reading);
            }
        }
    };
}

described!();
described!(A);
described!(A B);
described!(A B C);
described!(A B C D);

/// What the gateway knows or what the guard has seen to: nothing that the caller has to say here.
macro_rules! not_sent {
    ($($part:ty),*) => {$(
        impl Taken for $part {
            fn taken(_: &mut Reading<'_>) {}
        }
    )*};
}

not_sent!(State<Arc<App>>, Operator, Standing);

/// The variable part of a path.
pub(crate) trait Part {
    /// What it looks like.
    type Shape: JsonSchema;
}

macro_rules! parts {
    ($($part:ty: $shape:ty;)*) => {$(
        impl Part for $part {
            type Shape = $shape;
        }
    )*};
}

parts! {
    String: String;
    Name: String;
    Hash: shapes::Sha256;
    JobId: shapes::JobId;
    RunId: shapes::RunId;
    WorkspaceId: shapes::WorkspaceId;
}

impl<T: Part> Taken for Id<T> {
    fn taken(reading: &mut Reading<'_>) {
        let name = reading
            .variable
            .expect("a handler with an `Id` stands at a path with one");
        let schema = reading.sent.subschema_for::<T::Shape>();
        let parameter = json!({ "name": name, "in": "path", "required": true, "schema": schema });
        reading.parameters.push(parameter);
    }
}

impl<T: JsonSchema> Taken for Params<T> {
    fn taken(reading: &mut Reading<'_>) {
        let schema = T::json_schema(reading.sent);
        let member = |name| schema.get(name).cloned().unwrap_or_default();
        let required = member("required");
        let required = required.as_array().map_or(&[][..], Vec::as_slice);
        let members = member("properties");
        for (name, schema) in members.as_object().into_iter().flatten() {
            let mut schema = present(schema.clone());
            let says = schema
                .as_object_mut()
                .and_then(|schema| schema.remove("description"));
            let mut parameter = json!({
                "name": name,
                "in": "query",
                "required": required.iter().any(|one| one == name),
                "schema": schema,
            });
            if let Some(says) = says {
                parameter["description"] = says;
            }
            reading.parameters.push(parameter);
        }
    }
}

/// A schema without `null`: a query has no way to write it, and what is left out is no value.
pub(super) fn present(mut schema: Value) -> Value {
    without_null_default(&mut schema);
    if let Some(types) = schema.get_mut("type").and_then(Value::as_array_mut) {
        types.retain(|one| one != "null");
        if let [one] = types.as_slice() {
            schema["type"] = one.clone();
        }
    }
    if let Some(choices) = schema.get_mut("anyOf").and_then(Value::as_array_mut) {
        choices.retain(|one| *one != json!({ "type": "null" }));
        if let [one] = choices.as_slice() {
            let (one, says) = (one.clone(), schema.get("description").cloned());
            schema = one;
            if let Some(says) = says {
                schema["description"] = says;
            }
        }
    }
    schema
}

/// That what is left out counts as `null` says nothing.
pub(super) fn without_null_default(schema: &mut Value) {
    if schema.get("default") == Some(&Value::Null)
        && let Some(schema) = schema.as_object_mut()
    {
        schema.remove("default");
    }
}

impl<T: JsonSchema> Taken for Strict<T> {
    fn taken(reading: &mut Reading<'_>) {
        let schema = reading.sent.subschema_for::<T>();
        reading.body = Some(json!({
            "required": true,
            "content": { "application/json": { "schema": schema } },
        }));
    }
}

impl<T: JsonSchema> Taken for FormOrJson<T> {
    fn taken(reading: &mut Reading<'_>) {
        let schema = reading.sent.subschema_for::<T>();
        reading.body = Some(json!({
            "required": true,
            "content": {
                "application/json": { "schema": schema },
                "application/x-www-form-urlencoded": { "schema": schema },
            },
        }));
    }
}

/// Bodies whose form is Terraform Cloud's, with a signature of theirs.
macro_rules! upstreams {
    ($($part:ty),*) => {$(
        impl Taken for $part {
            fn taken(reading: &mut Reading<'_>) {
                let schema = reading.sent.subschema_for::<shapes::Document>();
                reading.body = Some(json!({
                    "required": true,
                    "content": { "application/json": { "schema": schema } },
                }));
            }
        }
    )*};
}

upstreams!(Signed, Notification);

/// Problems are the same for all operations.
impl<T: Answered> Answered for Result<T, Problem> {
    fn answered(reading: &mut Reading<'_>) {
        T::answered(reading);
    }
}

impl<T: JsonSchema> Answered for Json<T> {
    fn answered(reading: &mut Reading<'_>) {
        let schema = reading.answered.subschema_for::<T>();
        put(reading, "application/json", schema);
    }
}

/// Text for people or other programs.
impl Answered for String {
    fn answered(reading: &mut Reading<'_>) {
        let schema = reading.answered.subschema_for::<Self>();
        put(reading, "text/plain", schema);
    }
}

/// A status says it all.
impl Answered for StatusCode {
    fn answered(_: &mut Reading<'_>) {}
}

/// An answer that the handler writes itself, of one of the media types of `M`.
#[derive(Debug)]
pub(crate) struct Written<M>(Response, std::marker::PhantomData<M>);

/// Media types of answers that handlers write themselves.
pub(crate) trait MediaTypes {
    /// All of them.
    const ALL: &'static [&'static str];
}

impl<M> Written<M> {
    /// Of an answer whose `Content-Type` is one of them.
    pub(crate) fn new(answer: impl IntoResponse) -> Self {
        Self(answer.into_response(), std::marker::PhantomData)
    }
}

impl<M> IntoResponse for Written<M> {
    fn into_response(self) -> Response {
        self.0
    }
}

impl<M: MediaTypes> Answered for Written<M> {
    fn answered(reading: &mut Reading<'_>) {
        for media_type in M::ALL {
            let schema = match *media_type {
                "application/json" => reading.answered.subschema_for::<shapes::Document>(),
                _ => reading.answered.subschema_for::<String>(),
            };
            put(reading, media_type, schema);
        }
    }
}

fn put(reading: &mut Reading<'_>, media_type: &str, schema: Schema) {
    let content = json!({ "schema": schema });
    reading.content.insert(media_type.to_owned(), content);
}
