//! Bodies of each API, whole and in events.

use super::*;

fn text(text: &str) -> Said {
    Said::Text(text.to_owned())
}

fn turn(role: &str, said: Vec<Said>) -> Turn {
    let role = role.to_owned();
    Turn { role, said }
}

fn call(id: &str, arguments: &str) -> Said {
    Said::Call {
        id: id.to_owned(),
        name: "plan".to_owned(),
        arguments: arguments.to_owned(),
    }
}

fn result(id: &str) -> Said {
    Said::Result {
        id: id.to_owned(),
        text: "done".to_owned(),
    }
}

#[test]
fn requests_of_each_api() {
    let chat = br#"{"model":"m","messages":[
        {"role":"system","content":"be brief"},
        {"role":"user","content":[{"type":"text","text":"hello"},{"type":"image_url","image_url":{"url":"x"}}]},
        {"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"plan","arguments":"{}"}}]},
        {"role":"tool","tool_call_id":"c","content":"done"}]}"#;
    let hello = vec![text("hello"), Said::Other("image_url".to_owned())];
    assert_eq!(
        request(chat),
        [
            turn("system", vec![text("be brief")]),
            turn("user", hello),
            turn("assistant", vec![call("c", "{}")]),
            turn("tool", vec![result("c")]),
        ]
    );
    let responses = br#"{"instructions":"be brief","input":[
        {"role":"user","content":[{"type":"input_text","text":"hello"}]},
        {"type":"function_call","call_id":"c","name":"plan","arguments":"{}"},
        {"type":"function_call_output","call_id":"c","output":"done"}]}"#;
    let messages = br#"{"system":[{"type":"text","text":"be brief"}],"messages":[
        {"role":"user","content":"hello"},
        {"role":"assistant","content":[{"type":"tool_use","id":"c","name":"plan","input":{}}]},
        {"role":"tool","content":[{"type":"tool_result","tool_use_id":"c","content":[{"type":"text","text":"done"}]}]}]}"#;
    for body in [responses.as_slice(), messages] {
        assert_eq!(
            request(body),
            [
                turn("system", vec![text("be brief")]),
                turn("user", vec![text("hello")]),
                turn("assistant", vec![call("c", "{}")]),
                turn("tool", vec![result("c")]),
            ]
        );
    }
    let plain = request(br#"{"input":["a","b"]}"#);
    assert_eq!(plain, [turn("user", vec![text("a"), text("b")])]);
    assert_eq!(request(b"no"), [turn("unread", vec![text("no")])]);
}

#[test]
fn answers_of_each_api_whole_and_in_events() {
    let said = vec![text("Hello"), call("c", r#"{"a":1}"#)];
    let in_items = [
        turn("assistant", vec![text("Hello")]),
        turn("assistant", vec![call("c", r#"{"a":1}"#)]),
    ];
    let in_one = [turn("assistant", said)];
    for (body, turns) in [
        (
            r#"{"choices":[{"message":{"role":"assistant","content":"Hello","tool_calls":[{"id":"c","function":{"name":"plan","arguments":"{\"a\":1}"}}]}}]}"#,
            in_one.as_slice(),
        ),
        (
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"Hel\"}}]}\n\n\
             data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"lo\"}}]}\n\n\
             data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c\",\"function\":{\"name\":\"plan\",\"arguments\":\"{\\\"a\\\"\"}}]}}]}\n\n\
             data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\":1}\"}}]}}]}\n\n\
             data: [DONE]\n\n",
            &in_one,
        ),
        (
            r#"{"role":"assistant","content":[{"type":"text","text":"Hello"},{"type":"tool_use","id":"c","name":"plan","input":{"a":1}}]}"#,
            &in_one,
        ),
        (
            "event: content_block_start\r\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\r\n\r\n\
             data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello\"}}\r\n\r\n\
             data: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"tool_use\",\"id\":\"c\",\"name\":\"plan\",\"input\":{}}}\r\n\r\n\
             data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"a\\\"\"}}\r\n\r\n\
             data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\":1}\"}}\r\n\r\n",
            &in_one,
        ),
        (
            r#"{"output":[{"type":"message","role":"assistant","content":[{"type":"output_text","text":"Hello"}]},{"type":"function_call","call_id":"c","name":"plan","arguments":"{\"a\":1}"}]}"#,
            &in_items,
        ),
        // Cut off before its last word.
        (
            "data: {\"type\":\"response.output_text.delta\",\"output_index\":0,\"delta\":\"Hel\"}\n\n\
             data: {\"type\":\"response.output_text.delta\",\"output_index\":0,\"delta\":\"lo\"}\n\n\
             data: {\"type\":\"response.output_item.done\",\"output_index\":1,\"item\":{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"plan\",\"arguments\":\"{\\\"a\\\":1}\"}}\n\n\
             data: {\"type\":\"response.comp",
            &in_items,
        ),
    ] {
        assert_eq!(answer(body.as_bytes()), turns, "{body}");
    }
}

#[test]
fn what_is_no_conversation_is_named() {
    let wrong = answer(br#"{"error":{"message":"no such model"}}"#);
    assert_eq!(wrong, [turn("error", vec![text("no such model")])]);
    let vectors = answer(br#"{"data":[{"embedding":[1]},{"embedding":[2]}]}"#);
    let two = Said::Other("a list of 2 entries".to_owned());
    assert_eq!(vectors, [turn("assistant", vec![two])]);
    assert_eq!(answer(b"<html>"), [turn("unread", vec![text("<html>")])]);
    assert_eq!(answer(b""), []);
    let thinks = answer(br#"{"content":[{"type":"thinking","thinking":"hm"},{"type":"new"}]}"#);
    let said = vec![Said::Thought("hm".into()), Said::Other("new".into())];
    assert_eq!(thinks, [turn("assistant", said)]);
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    let deep = answer(format!("{{\"content\":{deep}}}").as_bytes());
    assert_eq!(deep.len(), 1);
}
