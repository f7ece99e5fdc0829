//! Notices as Slack's incoming webhooks take them.

use serde_json::{Value, json};

use super::message::Message;

/// Most fields of a section, and most characters of one: Slack's own bounds.
const MAX_FIELDS: usize = 10;
const MAX_FIELD: usize = 2000;

/// The body of a call.
pub(super) fn render(message: &Message) -> Vec<u8> {
    let link = escaped(&message.link);
    let mark = if message.destructive {
        ":warning: "
    } else {
        ""
    };
    let mut lead = format!("*{}*", escaped(&message.headline));
    if !message.verdict.is_empty() {
        lead.push_str(&format!("\n{mark}{}", escaped(&message.verdict)));
    }
    let fields: Vec<Value> = message
        .facts
        .iter()
        .take(MAX_FIELDS)
        .map(|(name, value)| plain(&format!("{name}\n{value}")))
        .collect();
    // What phones show before the message is opened.
    let text: Vec<&str> = [&message.headline, &message.verdict, &message.place]
        .into_iter()
        .map(String::as_str)
        .filter(|part| !part.is_empty())
        .collect();
    let text = format!("{} {link}", escaped(&text.join(" · ")));
    let body = json!({
        "text": text,
        "unfurl_links": false,
        "unfurl_media": false,
        "blocks": [
            { "type": "section", "text": { "type": "mrkdwn", "text": lead, "verbatim": true } },
            { "type": "section", "fields": fields },
            { "type": "section",
              "text": { "type": "mrkdwn", "text": format!("<{link}|Look and decide>") } },
        ],
    });
    body.to_string().into_bytes()
}

/// Text that Slack does not format: no name can paint, link or mention anybody.
fn plain(text: &str) -> Value {
    let text: String = escaped(text).chars().take(MAX_FIELD).collect();
    json!({ "type": "plain_text", "text": text, "emoji": false })
}

/// The three characters that mean something to Slack everywhere.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
