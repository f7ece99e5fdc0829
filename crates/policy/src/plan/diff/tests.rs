use super::*;

fn inside(change: &str) -> Inside {
    within(&mut Budget::default(), change)
}

fn within(budget: &mut Budget, change: &str) -> Inside {
    attributes(&parse(change.as_bytes(), Numbers::Any).unwrap(), budget)
}

/// As a person reads it: `path: before -> after`, with `!` where it forces the replacement.
fn written(inside: &Inside) -> Vec<String> {
    let side = |side: &Shown| match side {
        Shown::Absent => "nothing".to_owned(),
        Shown::Unknown => "later".to_owned(),
        Shown::Sensitive => "secret".to_owned(),
        Shown::Value(text) => text.clone(),
    };
    let line = |change: &AttributeChange| {
        let forces = if change.forces_replacement { "!" } else { "" };
        let (before, after) = (side(&change.before), side(&change.after));
        format!("{}{forces}: {before} -> {after}", change.name)
    };
    inside.changes.iter().map(line).collect()
}

/// Two objects, what else stands in the change, and what is shown.
type Case = (
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
);

#[test]
fn what_differs_is_named_by_its_path() {
    let cases: &[Case] = &[
        // Objects, at any depth; what stays is left out.
        (r#"{"a":1,"b":2}"#, r#"{"b":3,"a":1}"#, "", &["b: 2 -> 3"]),
        (
            r#"{"tags":{"env":"a","own":"x"}}"#,
            r#"{"tags":{"env":"b","own":"x","new":"n"}}"#,
            "",
            &[r#"tags.env: "a" -> "b""#, r#"tags.new: nothing -> "n""#],
        ),
        (
            r#"{"a":{"b":{"c":{"d":1}}}}"#,
            r#"{"a":{"b":{"c":{"d":null}}}}"#,
            "",
            &["a.b.c.d: 1 -> nothing"],
        ),
        (
            r#"{"l":{}}"#,
            r#"{"l":{"kubernetes.io/name":"x","0":1}}"#,
            "",
            &[
                r#"l["0"]: nothing -> 1"#,
                r#"l["kubernetes.io/name"]: nothing -> "x""#,
            ],
        ),
        // What begins and what ends is shown with what it holds.
        (
            "null",
            r#"{"name":"n","tags":{"env":"a"},"none":null,"empty":{},"list":["a","b"]}"#,
            "",
            &[
                "empty: nothing -> {}",
                r#"list: nothing -> ["a","b"]"#,
                r#"name: nothing -> "n""#,
                r#"tags.env: nothing -> "a""#,
            ],
        ),
        (
            r#"{"block":[{"size":1},{"size":2}]}"#,
            "null",
            "",
            &["block[0].size: 1 -> nothing", "block[1].size: 2 -> nothing"],
        ),
        // Also where that is nothing but nulls.
        (
            r#"{"b":[{"x":1}],"o":{"k":{"n":null}}}"#,
            r#"{"b":[{"x":1},{"x":null}]}"#,
            "",
            &[
                r#"b[1]: nothing -> {"x":null}"#,
                r#"o.k: {"n":null} -> nothing"#,
            ],
        ),
        // Lists and sets: what goes and what comes.
        (
            r#"{"l":["a","b","c"]}"#,
            r#"{"l":["a","c","d"]}"#,
            "",
            &[r#"l[1]: "b" -> nothing"#, r#"l[2]: nothing -> "d""#],
        ),
        (
            r#"{"l":["a"]}"#,
            r#"{"l":["b"]}"#,
            "",
            &[r#"l[0]: "a" -> nothing"#, r#"l[0]: nothing -> "b""#],
        ),
        (
            r#"{"l":["a"]}"#,
            r#"{"l":[]}"#,
            "",
            &[r#"l[0]: "a" -> nothing"#],
        ),
        (
            r#"{"l":[null,1]}"#,
            r#"{"l":[1]}"#,
            "",
            &["l[0]: null -> nothing"],
        ),
        (
            r#"{"l":[1,2]}"#,
            r#"{"l":[2,1]}"#,
            "",
            &["l[0]: 1 -> nothing", "l[1]: nothing -> 1"],
        ),
        // Blocks that stand for each other are compared.
        (
            r#"{"ingress":[{"port":80,"from":["10.0.0.0/8"]},{"port":22,"from":[]}]}"#,
            r#"{"ingress":[{"port":80,"from":["0.0.0.0/0"]},{"port":22,"from":[]}]}"#,
            "",
            &[
                r#"ingress[0].from[0]: "10.0.0.0/8" -> nothing"#,
                r#"ingress[0].from[0]: nothing -> "0.0.0.0/0""#,
            ],
        ),
        (
            r#"{"b":[{"n":1},{"n":2},{"n":3}]}"#,
            r#"{"b":[{"n":1},{"n":3}]}"#,
            "",
            &["b[1].n: 2 -> nothing"],
        ),
        // Another shape.
        (
            r#"{"a":{"b":1}}"#,
            r#"{"a":"text"}"#,
            "",
            &["a.b: 1 -> nothing", r#"a: nothing -> "text""#],
        ),
        (
            r#"{"a":{"b":1}}"#,
            r#"{"a":[2]}"#,
            "",
            &["a.b: 1 -> nothing", "a: nothing -> [2]"],
        ),
        // What is known after the apply only.
        (
            r#"{"id":"i","b":[{"x":1,"id":"j"}]}"#,
            r#"{"b":[{"x":1}]}"#,
            r#""after_unknown":{"id":true,"b":[{"id":true}],"arn":true,"not":false}"#,
            &[
                "arn: nothing -> later",
                r#"b[0].id: "j" -> later"#,
                r#"id: "i" -> later"#,
            ],
        ),
        (
            r#"{"l":[1],"o":{"p":1}}"#,
            r#"{"l":[1,null]}"#,
            r#""after_unknown":{"l":[false,true],"o":true}"#,
            &["l[1]: nothing -> later", r#"o: {"p":1} -> later"#],
        ),
        (
            "null",
            "{}",
            r#""after_unknown":{"a":{"b":[true]}}"#,
            &["a.b[0]: nothing -> later"],
        ),
        // A mask that does not fit.
        (
            r#"{"a":1}"#,
            r#"{"a":1}"#,
            r#""after_unknown":{"a":[true]}"#,
            &["a: 1 -> later"],
        ),
        (
            r#"{"a":1}"#,
            r#"{"a":2}"#,
            r#""after_unknown":true"#,
            &[r#"the whole object: {"a":1} -> later"#],
        ),
        // Why it is replaced.
        (
            r#"{"a":1,"b":[{"c":1,"d":1}],"e":{"f":1}}"#,
            r#"{"a":2,"b":[{"c":2,"d":2}],"e":{"f":2}}"#,
            r#""replace_paths":[["b",0,"c"],["e"],[]]"#,
            &[
                "a: 1 -> 2",
                "b[0].c!: 1 -> 2",
                "b[0].d: 1 -> 2",
                "e.f!: 1 -> 2",
            ],
        ),
        (
            r#"{"s":[{"x":1}]}"#,
            r#"{"s":[{"x":2}]}"#,
            r#""replace_paths":[["s",{"x":2}]]"#,
            &["s[0].x!: 1 -> 2"],
        ),
        // JSON in a text, once.
        (
            r#"{"p":"{\"S\":[{\"A\":\"x\",\"E\":\"Allow\"}],\"t\":\"{\\\"i\\\":1}\"}"}"#,
            r#"{"p":"{\"S\":[{\"A\":\"*\",\"E\":\"Allow\"}],\"t\":\"{\\\"i\\\":2}\"}"}"#,
            r#""replace_paths":[["p"]]"#,
            &[
                r#"jsondecode(p).S[0].A!: "x" -> "*""#,
                r#"jsondecode(p).t!: "{\"i\":1}" -> "{\"i\":2}""#,
            ],
        ),
        (
            r#"{"p":"{\"a\":1}"}"#,
            r#"{"p":"{ \"a\":1}"}"#,
            "",
            &[r#"p: "{\"a\":1}" -> "{ \"a\":1}""#],
        ),
        (
            r#"{"p":"{\"a\":1,\"a\":2}"}"#,
            r#"{"p":"{\"a\":2}"}"#,
            "",
            &[r#"p: "{\"a\":1,\"a\":2}" -> "{\"a\":2}""#],
        ),
        // Numbers that a double would make the same.
        (
            r#"{"p":"{\"a\":9007199254740992}"}"#,
            r#"{"p":"{\"a\":9007199254740993}"}"#,
            "",
            &[r#"p: "{\"a\":9007199254740992}" -> "{\"a\":9007199254740993}""#],
        ),
        (r#"{"n":1}"#, r#"{"n":1.5}"#, "", &["n: 1 -> 1.5"]),
        (r#"{"n":"1"}"#, r#"{"n":1}"#, "", &[r#"n: "1" -> 1"#]),
    ];
    for (before, after, more, expected) in cases {
        let comma = if more.is_empty() { "" } else { "," };
        let change = format!(r#"{{"before":{before},"after":{after}{comma}{more}}}"#);
        assert_eq!(written(&inside(&change)), *expected, "{change}");
    }
}

/// Whatever the masks look like: no `hidden` is ever shown.
#[test]
fn secrets_are_masked_at_any_depth() {
    let cases: &[Case] = &[
        (
            r#"{"a":{"b":{"k":"hidden-1","n":1}}}"#,
            r#"{"a":{"b":{"k":"hidden-2","n":2}}}"#,
            r#""before_sensitive":{"a":{"b":{"k":true}}},"after_sensitive":{"a":{"b":{"k":true}}}"#,
            &["a.b.k: secret -> secret", "a.b.n: 1 -> 2"],
        ),
        // On one side only: that side would show what the other hides.
        (
            r#"{"k":"hidden-1"}"#,
            r#"{"k":"hidden-1 and more"}"#,
            r#""before_sensitive":{"k":true},"after_sensitive":{}"#,
            &["k: secret -> secret"],
        ),
        (
            "null",
            r#"{"k":"hidden"}"#,
            r#""after_sensitive":{"k":true}"#,
            &["k: nothing -> secret"],
        ),
        (
            r#"{"k":"hidden"}"#,
            "null",
            r#""before_sensitive":true"#,
            &["the whole object: secret -> nothing"],
        ),
        (
            r#"{"k":"hidden","l":1}"#,
            r#"{"l":1}"#,
            r#""before_sensitive":{"k":true},"after_unknown":{"k":true}"#,
            &["k: secret -> later"],
        ),
        (
            r#"{"l":["a","hidden-1"]}"#,
            r#"{"l":["a","hidden-2"]}"#,
            r#""before_sensitive":{"l":[false,true]},"after_sensitive":{"l":[false,true]}"#,
            &["l[1]: secret -> nothing", "l[1]: nothing -> secret"],
        ),
        (
            "null",
            r#"{"l":["hidden","b"],"m":{"k":{"x":"hidden"}}}"#,
            r#""after_sensitive":{"l":[true],"m":{"k":true}}"#,
            &[
                "l[0]: nothing -> secret",
                r#"l[1]: nothing -> "b""#,
                "m.k: nothing -> secret",
            ],
        ),
        // One element becomes two: either may be it.
        (
            r#"{"l":[{"n":0,"p":"hidden"}]}"#,
            r#"{"l":[{"n":1,"p":"hidden"},{"n":2,"p":"x"}]}"#,
            r#""before_sensitive":{"l":[{"p":true}]}"#,
            &[
                "l[0].n: 0 -> nothing",
                "l[0].p: secret -> nothing",
                "l[0].n: nothing -> 1",
                "l[0].p: nothing -> secret",
                "l[1].n: nothing -> 2",
                "l[1].p: nothing -> secret",
            ],
        ),
        (
            r#"{"l":[{"n":0,"p":["hidden"]},{"n":1}]}"#,
            r#"{"l":[{"n":2,"p":["hidden","hidden-2"]}]}"#,
            r#""after_sensitive":{"l":[{"p":[false,true]}]}"#,
            &[
                "l[0].n: 0 -> nothing",
                "l[0].p[0]: secret -> nothing",
                "l[1].n: 1 -> nothing",
                "l[0].n: nothing -> 2",
                "l[0].p[0]: nothing -> secret",
                "l[0].p[1]: nothing -> secret",
            ],
        ),
        // What only comes hides what it marks, and nothing else.
        (
            r#"{"l":[{"p":"hidden"}]}"#,
            r#"{"l":[{"p":"hidden"},{"p":"x"}]}"#,
            r#""before_sensitive":{"l":[{"p":true}]},"after_sensitive":{"l":[{"p":true}]}"#,
            &[r#"l[1].p: nothing -> "x""#],
        ),
        // Of another shape.
        (
            r#"{"k":{"p":"hidden"}}"#,
            r#"{"k":["hidden"]}"#,
            r#""before_sensitive":{"k":{"p":true}}"#,
            &["k.p: secret -> nothing", "k: nothing -> secret"],
        ),
        // A mask that does not fit its value hides all of it.
        (
            r#"{"k":["hidden"]}"#,
            r#"{"k":"hidden-2"}"#,
            r#""before_sensitive":{"k":[false,true]},"after_sensitive":{"k":{"x":true}}"#,
            &["k: secret -> secret"],
        ),
        // What becomes unknown as a whole, with a part that is a secret.
        (
            r#"{"o":{"k":"hidden","n":1,"l":["hidden",2]}}"#,
            "{}",
            r#""before_sensitive":{"o":{"k":true,"l":[true]}},"after_unknown":{"o":true}"#,
            &[r#"o: {"k":(a secret),"n":1,"l":[(a secret),2]} -> later"#],
        ),
        // JSON in a secret is not gone into.
        (
            r#"{"k":"{\"p\":\"hidden-1\"}"}"#,
            r#"{"k":"{\"p\":\"hidden-2\"}"}"#,
            r#""after_sensitive":{"k":true}"#,
            &["k: secret -> secret"],
        ),
        // The same secret, in its place.
        (
            r#"{"k":"hidden","n":1}"#,
            r#"{"k":"hidden","n":2}"#,
            r#""before_sensitive":{"k":true},"after_sensitive":{"k":true}"#,
            &["n: 1 -> 2"],
        ),
    ];
    for (before, after, masks, expected) in cases {
        let change = format!(r#"{{"before":{before},"after":{after},{masks}}}"#);
        let inside = inside(&change);
        assert_eq!(written(&inside), *expected, "{change}");
        assert!(!format!("{inside:?}").contains("hidden"), "{change}");
    }
}

fn line(kind: LineKind, text: &str) -> Line {
    let text = text.to_owned();
    Line { kind, text }
}

#[test]
fn texts_of_several_lines_are_compared_by_line() {
    use LineKind::*;
    let script = |word: &str| {
        let head: String = (0..10).map(|n| format!("line {n}\\n")).collect();
        format!(r##"{{"s":"#!/bin/sh\n{head}{word}\nend\nof\nit\n"}}"##)
    };
    let (before, after) = (script("good"), script("evil\\nmore"));
    let shown = inside(&format!(r#"{{"before":{before},"after":{after}}}"#));
    let [change] = &shown.changes[..] else {
        panic!("{shown:?}");
    };
    let expected = [
        line(Skipped, "9"),
        line(Kept, "line 8"),
        line(Kept, "line 9"),
        line(Removed, "good"),
        line(Added, "evil"),
        line(Added, "more"),
        line(Kept, "end"),
        line(Kept, "of"),
        line(Skipped, "2"),
    ];
    assert_eq!(change.lines, expected);
    // Many and long ones are bounded, and it is said how many are not there.
    let many: String = (0..1000)
        .map(|n| format!("{n}{}\\n", "x".repeat(500)))
        .collect();
    let shown = inside(&format!(
        r#"{{"before":{{"s":"a\n"}},"after":{{"s":"{many}"}}}}"#
    ));
    let lines = &shown.changes[0].lines;
    assert_eq!(lines.len(), 102);
    assert_eq!(
        lines[100..],
        [line(LeftOut, "901"), line(Skipped, "1")],
        "what differs is counted apart from what stays"
    );
    let cut = format!("1{}… (261 characters)", "x".repeat(239));
    assert_eq!(lines[2].text, cut);
}

/// In a long line too it is the difference that is shown, whichever line stands beside it.
#[test]
fn no_difference_is_hidden_at_the_end_of_a_line() {
    use LineKind::*;
    let fill = |letter: &str, count| letter.repeat(count);
    let (head, tail) = (fill("x", 1000), fill("y", 1000));
    let old = format!("{head}deny{tail}");
    let new = format!("{head}allow{tail}");
    let around = |word: &str| {
        let (head, tail) = (fill("x", 40), fill("y", 40));
        format!("(960 characters) …{head}{word}{tail}… (960 characters)")
    };
    let (removed, added) = (
        line(Removed, &around("deny")),
        line(Added, &around("allow")),
    );
    let lines = |before: String, after: String| {
        let change = format!(r#"{{"before":{{"s":"{before}"}},"after":{{"s":"{after}"}}}}"#);
        inside(&change).changes.remove(0).lines
    };
    assert_eq!(
        lines(format!("{old}\\nz"), format!("{new}\\nz")),
        [removed.clone(), added.clone(), line(Kept, "z")]
    );
    // Other lines beside them change nothing.
    assert_eq!(
        lines(format!("{old}\\na\\nz"), format!("b\\nc\\n{new}\\nz")),
        [
            removed,
            line(Removed, "a"),
            line(Added, "b"),
            line(Added, "c"),
            added,
            line(Kept, "z")
        ]
    );
    // What comes at the very end.
    let longer = lines(format!("{head}\\nz"), format!("{head}!\\nz"));
    let end = |more: &str| format!("(960 characters) …{}{more}", fill("x", 40));
    assert_eq!(
        longer[..2],
        [line(Removed, &end("")), line(Added, &end("!"))]
    );
}

#[test]
fn many_members_take_no_longer_than_their_number() {
    let object = |last: usize| {
        let all: Vec<String> = (0..100_000).map(|n| format!(r#""{n}":0"#)).collect();
        format!(r#"{{"m":{{{},"last":{last}}}}}"#, all.join(","))
    };
    let change = format!(r#"{{"before":{},"after":{}}}"#, object(1), object(2));
    assert_eq!(written(&inside(&change)), ["m.last: 1 -> 2"]);
}

/// A plan is visited within its budget, and what is beyond that is counted.
#[test]
fn what_there_is_no_time_for_is_said() {
    let change = r#"{"before":{"l":[1,2],"o":{"a":1,"b":1,"c":1}},
        "after":{"l":[1,3],"o":{"a":2,"b":2,"c":2}}}"#;
    let mut budget = Budget {
        visits: 7,
        comparisons: 1,
    };
    let first = within(&mut budget, change);
    assert_eq!((first.changes.len(), first.not_compared), (5, 0));
    assert_eq!((budget.visits, budget.comparisons), (0, 0));
    let second = within(&mut budget, change);
    assert_eq!((second.changes.len(), second.not_compared), (0, 1));
    budget.visits = 4;
    let third = within(&mut budget, change);
    assert_eq!(
        written(&third),
        ["l[1]: 2 -> nothing", "l[1]: nothing -> 3"]
    );
    assert_eq!(third.not_compared, 1);
    // Not even that it comes is shown as if it were all.
    budget.visits = 1;
    let created = within(&mut budget, r#"{"after":{"o":{"a":1,"b":2}}}"#);
    assert_eq!((created.changes.len(), created.not_compared), (0, 1));
}

/// What an approver is shown of an object cannot be pushed out of sight.
#[test]
fn no_place_and_no_difference_is_hidden_by_filling_up() {
    let many: Vec<String> = (0..600).map(|n| format!(r#""a{n:03}":{n}"#)).collect();
    let shown = inside(&format!(
        r#"{{"before":null,"after":{{{}}}}}"#,
        many.join(",")
    ));
    assert_eq!((shown.changes.len(), shown.left_out), (512, 88));
    // Nor is there more of it than anybody reads: what is left out is counted, in order.
    let many: Vec<String> = (0..100)
        .map(|n| format!(r#""a{n:03}":"{:1000}""#, n))
        .collect();
    let shown = inside(&format!(
        r#"{{"before":null,"after":{{{},"b":1}}}}"#,
        many.join(",")
    ));
    assert_eq!((shown.changes.len(), shown.left_out), (65, 36));

    let fill = "x".repeat(5000);
    let both = |before: String, after: String| {
        let change = format!(r#"{{"before":{{"p":"{before}"}},"after":{{"p":"{after}"}}}}"#);
        written(&inside(&change))
    };
    let xs = "x".repeat(40);
    assert_eq!(
        both(format!("{fill}deny{fill}"), format!("{fill}allow{fill}")),
        [format!(
            "p: …{xs}deny{}… -> …{xs}allow{}…",
            "x".repeat(40),
            "x".repeat(40)
        )]
    );
    // Two differences with much between them: what is cut is counted.
    let shown = both(format!("a{fill}b"), format!("c{fill}d"));
    assert!(shown[0].starts_with("p: \"ax"), "{shown:?}");
    assert!(shown[0].ends_with("… (3004 characters more)"), "{shown:?}");
}

#[test]
fn a_huge_value_takes_no_longer_than_its_size() {
    let list = |word: &str| {
        let all: Vec<String> = (0..50_000).map(|n| format!(r#""{word}-{n}""#)).collect();
        all.join(",")
    };
    let (before, after) = (list("a"), list("b"));
    let shown = inside(&format!(
        r#"{{"before":{{"l":[{before}]}},"after":{{"l":[{after},"same"]}}}}"#
    ));
    assert_eq!(shown.changes.len(), 512);
    assert_eq!(shown.left_out, 100_001 - 512);
    let deep = |leaf: &str| {
        let opening = r#"{"a":["#.repeat(20);
        format!("{opening}{leaf}{}", "]}".repeat(20))
    };
    let (before, after) = (deep("1"), deep("2"));
    let shown = inside(&format!(r#"{{"before":{before},"after":{after}}}"#));
    assert_eq!(shown.changes.len(), 2, "{shown:?}");
    assert!(shown.changes[0].name.ends_with(".a[0].a[0]"));
    let name = "n".repeat(100_000);
    let shown = inside(&format!(r#"{{"before":null,"after":{{"{name}":1}}}}"#));
    assert_eq!(shown.changes[0].name.chars().count(), 401);
}
