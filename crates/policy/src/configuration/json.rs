//! Configuration in JSON syntax, read into the same form as the native syntax.
//!
//! Every text in it is a template, so that functions hide in plain strings; each one is parsed.

use hcl_edit::Ident;
use hcl_edit::expr::{Array, Expression, Object, ObjectKey};
use hcl_edit::parser::parse_template;
use hcl_edit::structure::{Attribute, Block, Body};
use hcl_edit::template::StringTemplate;
use proof::json::{Json, Numbers, parse};

use super::block::{TOP, empty, nested};
use super::scan;
use crate::reason::quoted;

pub(super) fn body(content: &[u8]) -> Result<Body, String> {
    let json = parse(content, Numbers::Any).map_err(|error| error.to_string())?;
    let mut body = empty();
    // A list of objects means their sum.
    for object in objects(&json)? {
        for (name, value) in object {
            if name == "//" {
                continue;
            }
            let Some((name, labels)) = TOP.iter().find(|(known, _)| known == name) else {
                return Err(format!("{} is not accepted", quoted(name)));
            };
            blocks(name, *labels, &mut Vec::new(), value, &mut body)?;
        }
    }
    Ok(body)
}

fn objects(value: &Json) -> Result<Vec<&[(String, Json)]>, String> {
    match value {
        Json::Object(members) => Ok(vec![members]),
        Json::Array(elements) => elements
            .iter()
            .map(|element| {
                element
                    .members()
                    .ok_or_else(|| "must be an object".to_owned())
            })
            .collect(),
        _ => Err("must be an object".to_owned()),
    }
}

/// Adds the blocks of one type, going down one object per label.
fn blocks(
    name: &str,
    labels: usize,
    above: &mut Vec<String>,
    value: &Json,
    body: &mut Body,
) -> Result<(), String> {
    for object in objects(value).map_err(|error| format!("{}: {error}", quoted(name)))? {
        if above.len() < labels {
            for (label, value) in object {
                if label != "//" {
                    above.push(label.clone());
                    blocks(name, labels, above, value, body)?;
                    above.pop();
                }
            }
            continue;
        }
        let mut block = Block::new(ident(name)?);
        block.labels = above.iter().map(|label| label.as_str().into()).collect();
        block.body = contents(name, object)?;
        body.push(block);
    }
    Ok(())
}

fn contents(inside: &str, object: &[(String, Json)]) -> Result<Body, String> {
    let mut body = empty();
    for (name, value) in object {
        if name == "//" {
            continue;
        }
        match nested(inside).iter().find(|(known, _)| known == name) {
            Some((name, labels)) => blocks(name, *labels, &mut Vec::new(), value, &mut body)?,
            None => body.push(Attribute::new(ident(name)?, expression(value)?)),
        }
    }
    Ok(body)
}

fn ident(name: &str) -> Result<Ident, String> {
    Ident::try_new(name).map_err(|_| format!("{} is not a name", quoted(name)))
}

fn expression(value: &Json) -> Result<Expression, String> {
    Ok(match value {
        Json::Null => Expression::null(),
        Json::Bool(value) => Expression::from(*value),
        Json::Integer(value) => Expression::from(*value),
        // No rule looks at numbers.
        Json::Double(_) => Expression::from(0),
        Json::String(text) => string(text)?,
        Json::Array(elements) => {
            let mut array = Array::new();
            for element in elements {
                array.push(expression(element)?);
            }
            Expression::Array(array)
        }
        Json::Object(members) => {
            let mut object = Object::new();
            for (name, value) in members {
                let twice = object.insert(ObjectKey::Expression(string(name)?), expression(value)?);
                // `${f()}` and `${ f() }` are two names here and one there: neither may get lost.
                if twice.is_some() {
                    return Err(format!("{} is there twice", quoted(name)));
                }
            }
            Expression::Object(object)
        }
    })
}

fn string(text: &str) -> Result<Expression, String> {
    if !text.contains("${") && !text.contains("%{") {
        return Ok(Expression::from(text));
    }
    let unreadable = || format!("{} is not a template that can be read", quoted(text));
    scan::template(text).map_err(|_| unreadable())?;
    let template = parse_template(text).map_err(|_| unreadable())?;
    let mut expression = StringTemplate::with_capacity(template.len());
    for element in template.iter() {
        expression.push(element.clone());
    }
    Ok(Expression::StringTemplate(expression))
}
