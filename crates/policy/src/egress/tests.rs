use super::*;

use EgressOperation::{Connect, Request};

fn pattern(text: &str) -> HostPattern {
    HostPattern::new(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A destination as a client writes it, and whether a pattern lets it through.
fn admits(text: &str, operation: EgressOperation, authority: &str) -> bool {
    let to = Destination::parse(operation, authority)
        .unwrap_or_else(|error| panic!("{authority}: {error}"));
    pattern(text).matches(operation, to.host.borrowed(), to.port)
}

#[test]
fn a_pattern_admits_what_people_expect_and_nothing_else() {
    for (text, operation, authority, expected) in [
        // A host is that host.
        ("example.com", Connect, "example.com:443", true),
        ("example.com", Connect, "EXAMPLE.com:443", true),
        ("Example.COM", Connect, "example.com:443", true),
        ("example.com", Connect, "example.com.:443", true),
        ("example.com", Connect, "www.example.com:443", false),
        (
            "example.com",
            Connect,
            "example.com.evil.example:443",
            false,
        ),
        ("example.com", Connect, "notexample.com:443", false),
        ("example.com", Connect, "example.co:443", false),
        // A star is one or more labels, and never none.
        ("*.example.com", Connect, "a.example.com:443", true),
        ("*.example.com", Connect, "a.b.example.com:443", true),
        ("*.example.com", Connect, "A.B.Example.Com.:443", true),
        ("*.example.com", Connect, "example.com:443", false),
        ("*.example.com", Connect, "badexample.com:443", false),
        (
            "*.example.com",
            Connect,
            "a.example.com.evil.example:443",
            false,
        ),
        ("*.example.com", Connect, "a-example.com:443", false),
        // Without a port: what is usual for the way it is asked for.
        ("example.com", Connect, "example.com:80", false),
        ("example.com", Connect, "example.com:8443", false),
        ("example.com", Request, "example.com", true),
        ("example.com", Request, "example.com:80", true),
        ("example.com", Request, "example.com:8080", false),
        ("example.com", Request, "example.com:443", false),
        // With a port: that one, in both ways, but for plain text where TLS belongs.
        ("example.com:8443", Connect, "example.com:8443", true),
        ("example.com:8443", Connect, "example.com:443", false),
        ("example.com:8080", Request, "example.com:8080", true),
        ("example.com:8080", Request, "example.com", false),
        ("example.com:80", Connect, "example.com:80", true),
        ("example.com:443", Connect, "example.com:443", true),
        ("example.com:443", Request, "example.com:443", false),
        ("*.example.com:22", Connect, "git.example.com:22", true),
        ("*.example.com:22", Connect, "git.example.com:443", false),
        // Internationalised names have one form here.
        (
            "xn--bcher-kva.example",
            Connect,
            "xn--bcher-kva.example:443",
            true,
        ),
        (
            "XN--BCHER-KVA.example",
            Connect,
            "xn--bcher-kva.example:443",
            true,
        ),
        // Addresses are themselves, and no name below anything.
        ("192.0.2.7", Connect, "192.0.2.7:443", true),
        ("192.0.2.7", Connect, "192.0.2.8:443", false),
        ("[2001:db8::7]", Connect, "[2001:db8::7]:443", true),
        ("[2001:DB8:0::7]", Connect, "[2001:db8:0:0::7]:443", true),
        ("[2001:db8::7]:8443", Connect, "[2001:db8::7]:8443", true),
        ("[::ffff:192.0.2.7]", Connect, "192.0.2.7:443", false),
        ("192.0.2.7", Connect, "[::ffff:192.0.2.7]:443", false),
    ] {
        let found = admits(text, operation, authority);
        assert_eq!(found, expected, "{text} for {operation:?} {authority}");
    }
}

#[test]
fn patterns_are_read_strictly_and_kept_in_one_form() {
    for (text, kept) in [
        ("Example.COM", "example.com"),
        ("*.Example.com:8443", "*.example.com:8443"),
        ("[2001:DB8:0:0::7]:443", "[2001:db8::7]:443"),
        ("localhost", "localhost"),
    ] {
        assert_eq!(pattern(text).as_str(), kept);
        assert_eq!(pattern(kept).as_str(), kept);
    }
    use PatternError as E;
    for (text, error) in [
        ("", E::Host(HostError::Empty)),
        (":443", E::Host(HostError::Empty)),
        ("*", E::TooWide),
        ("*.com", E::TooWide),
        ("*:443", E::TooWide),
        ("*.", E::TrailingDot),
        ("*.*.example.com", E::Star),
        ("a.*.example.com", E::Star),
        ("a*.example.com", E::Star),
        ("**.example.com", E::Star),
        ("*example.com", E::Star),
        ("*.example.com.", E::TrailingDot),
        ("example.com.", E::TrailingDot),
        ("example.com:", E::Port),
        ("example.com:0", E::Port),
        ("example.com:0443", E::Port),
        ("example.com:+443", E::Port),
        ("example.com:65536", E::Port),
        ("example.com:443:443", E::Port),
        ("example.com:*", E::Port),
        ("https://example.com", E::Host(HostError::NotAHost)),
        ("example.com/path", E::Host(HostError::NotAHost)),
        ("user@example.com", E::Host(HostError::NotAHost)),
        ("bücher.example", E::Host(HostError::NotAscii)),
        ("*.bücher.example", E::Host(HostError::NotAscii)),
        ("exam%70le.com", E::Host(HostError::Percent)),
        ("exa mple.com", E::Host(HostError::Label)),
        ("exa_mple.com", E::Host(HostError::Label)),
        ("-a.example.com", E::Host(HostError::Label)),
        ("a-.example.com", E::Host(HostError::Label)),
        ("a..example.com", E::Host(HostError::Label)),
        (".example.com", E::Host(HostError::Label)),
        ("2130706433", E::Host(HostError::Number)),
        ("127.1", E::Host(HostError::Number)),
        ("0177.0.0.1", E::Host(HostError::Number)),
        ("0x7f000001", E::Host(HostError::Number)),
        ("*.0.0.1", E::Host(HostError::Number)),
        ("2001:db8::7", E::Port),
        ("[2001:db8::7", E::Port),
        ("[2001:db8::7x]", E::Host(HostError::Ipv6)),
        ("[fe80::1%eth0]", E::Host(HostError::Ipv6)),
        ("[192.0.2.7]", E::Host(HostError::Ipv6)),
    ] {
        assert_eq!(HostPattern::new(text), Err(error), "{text}");
    }
    let long = format!("{}.example", vec!["a".repeat(60); 5].join("."));
    assert_eq!(HostPattern::new(&long), Err(E::Host(HostError::TooLong)));
    let label = format!("{}.example", "a".repeat(64));
    assert_eq!(HostPattern::new(&label), Err(E::Host(HostError::Label)));
}

#[test]
fn destinations_in_disguise_are_refused() {
    use DestinationError as E;
    for (operation, authority, error) in [
        (Connect, "example.com", E::NoPort),
        (Connect, "[2001:db8::7]", E::NoPort),
        (Connect, "", E::NoPort),
        (Connect, ":443", E::Host(HostError::Empty)),
        (Connect, "example.com:", E::Port),
        (Connect, "example.com:https", E::Port),
        (Connect, "example.com:70000", E::Port),
        (Connect, "example.com:443:1", E::Port),
        (Connect, "user@example.com:443", E::User),
        (Connect, "good.example@evil.example:443", E::User),
        (
            Connect,
            "example.com%00.evil.example:443",
            E::Host(HostError::Percent),
        ),
        (
            Connect,
            "example.com%2eevil.example:443",
            E::Host(HostError::Percent),
        ),
        (Connect, "2852039166:443", E::Host(HostError::Number)),
        (Connect, "0xa9fea9fe:443", E::Host(HostError::Number)),
        (
            Connect,
            "0xA9.0xFE.0xA9.0xFE:443",
            E::Host(HostError::Number),
        ),
        (
            Connect,
            "0251.0376.0251.0376:443",
            E::Host(HostError::Number),
        ),
        (Connect, "169.254.43518:443", E::Host(HostError::Number)),
        (Connect, "127.0.0.1.:443", E::Host(HostError::Number)),
        (Connect, "::1:443", E::Port),
        (Connect, "[::1%25lo]:443", E::Host(HostError::Ipv6)),
        (
            Request,
            "evil.example\\.example.com",
            E::Host(HostError::NotAHost),
        ),
        (Request, "a_b.example.com", E::Host(HostError::Label)),
    ] {
        assert_eq!(
            Destination::parse(operation, authority),
            Err(error),
            "{operation:?} {authority}"
        );
    }
    let to = |operation, authority| Destination::parse(operation, authority).unwrap();
    assert_eq!(to(Request, "Example.com").authority(Request), "example.com");
    assert_eq!(to(Request, "[::1]:81").authority(Request), "[::1]:81");
    assert_eq!(to(Connect, "a.example:443").port, 443);
}

#[test]
fn only_public_addresses_are_public() {
    for (text, expected) in [
        ("93.184.216.34", Kind::Public),
        ("1.1.1.1", Kind::Public),
        ("9.255.255.255", Kind::Public),
        ("11.0.0.0", Kind::Public),
        ("172.15.255.255", Kind::Public),
        ("172.32.0.0", Kind::Public),
        ("100.63.255.255", Kind::Public),
        ("100.128.0.0", Kind::Public),
        ("223.255.255.255", Kind::Public),
        ("0.0.0.0", Kind::Reserved),
        ("0.1.2.3", Kind::Reserved),
        ("10.0.0.1", Kind::Private),
        ("100.64.0.1", Kind::Shared),
        ("100.100.100.200", Kind::Metadata),
        ("127.0.0.1", Kind::Loopback),
        ("127.255.255.255", Kind::Loopback),
        ("168.63.129.16", Kind::Metadata),
        ("169.254.0.1", Kind::LinkLocal),
        ("169.254.169.254", Kind::Metadata),
        ("169.254.170.2", Kind::Metadata),
        ("172.16.0.1", Kind::Private),
        ("172.31.255.255", Kind::Private),
        ("192.0.0.192", Kind::Metadata),
        ("192.0.0.1", Kind::Reserved),
        ("192.0.2.1", Kind::Documentation),
        ("192.88.99.1", Kind::Translated),
        ("192.168.255.255", Kind::Private),
        ("198.18.0.1", Kind::Documentation),
        ("198.19.255.255", Kind::Documentation),
        ("198.51.100.1", Kind::Documentation),
        ("203.0.113.1", Kind::Documentation),
        ("224.0.0.1", Kind::Multicast),
        ("239.255.255.255", Kind::Multicast),
        ("240.0.0.1", Kind::Reserved),
        ("255.255.255.255", Kind::Reserved),
        ("2606:4700:4700::1111", Kind::Public),
        ("2a00:1450:4001:80b::200e", Kind::Public),
        ("::", Kind::Reserved),
        ("::1", Kind::Loopback),
        ("::127.0.0.1", Kind::Translated),
        ("::ffff:169.254.169.254", Kind::Translated),
        ("::ffff:93.184.216.34", Kind::Translated),
        ("::ffff:0:127.0.0.1", Kind::Translated),
        ("64:ff9b::7f00:1", Kind::Translated),
        ("64:ff9b:1::1", Kind::Translated),
        ("100::1", Kind::Reserved),
        ("2001::1", Kind::Translated),
        ("2001:2::1", Kind::Reserved),
        ("2001:db8::1", Kind::Documentation),
        ("2002:7f00:1::", Kind::Translated),
        ("3fff::1", Kind::Documentation),
        ("4000::1", Kind::Reserved),
        ("5f00::1", Kind::Reserved),
        ("fc00::1", Kind::Private),
        ("fd00:ec2::254", Kind::Metadata),
        ("fe80::1", Kind::LinkLocal),
        ("fec0::1", Kind::Private),
        ("ff02::1", Kind::Multicast),
    ] {
        assert_eq!(kind(text.parse().unwrap()), expected, "{text}");
    }
}

#[test]
fn a_range_is_written_in_one_way() {
    for text in [
        "127.0.0.1/32",
        "10.0.0.0/8",
        "0.0.0.0/0",
        "fd00::/8",
        "::/0",
    ] {
        let range: Network = text.parse().unwrap();
        assert_eq!(range.to_string(), text);
    }
    for text in [
        "",
        "/",
        "127.0.0.1",
        "10.0.0.1/8",
        "10.0.0.0/33",
        "10.0.0.0/+8",
        "10.0.0.0/",
        "fd00::1/8",
        "::/129",
        "::/0128",
        "a/8",
        "10.0.0.0/8/8",
    ] {
        assert!(text.parse::<Network>().is_err(), "{text}");
    }
    let range: Network = "127.0.0.0/8".parse().unwrap();
    for (address, holds) in [
        ("127.9.9.9", true),
        ("128.0.0.1", false),
        ("::ffff:127.0.0.1", false),
        ("::1", false),
    ] {
        assert_eq!(range.contains(address.parse().unwrap()), holds, "{address}");
    }
}

#[test]
fn what_has_a_way_of_its_own_is_not_listed() {
    let own = [("tfe.corp.example".to_owned(), Reserved::TerraformCloud)];
    for (text, expected) in [
        ("app.terraform.io", true),
        ("app.terraform.io:8443", true),
        ("*.terraform.io", true),
        ("registry.terraform.io", false),
        ("releases.hashicorp.com", false),
        ("api.openai.com", true),
        ("*.openai.com", true),
        ("openai.com", false),
        ("x.openai.azure.com", true),
        ("*.openai.azure.com", true),
        ("*.azure.com", true),
        ("*.eu.openai.azure.com", true),
        ("management.azure.com", false),
        ("tfe.corp.example", true),
        ("*.corp.example", true),
        ("git.corp.example", false),
        ("192.0.2.1", false),
    ] {
        let found = covers_reserved(&pattern(text), &own);
        assert_eq!(found.is_some(), expected, "{text}: {found:?}");
    }
    assert_eq!(
        well_known("a.openai.azure.com"),
        Some(Reserved::ModelProvider)
    );
    assert_eq!(well_known("openai.azure.com"), None);
    assert_eq!(
        well_known("app.terraform.io"),
        Some(Reserved::TerraformCloud)
    );
}

/// A ClientHello with these extensions, in one record.
fn hello(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut list = Vec::new();
    for (kind, content) in extensions {
        list.extend(kind.to_be_bytes());
        list.extend((content.len() as u16).to_be_bytes());
        list.extend(content);
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend([0, 2, 0x13, 0x01, 1, 0]);
    body.extend((list.len() as u16).to_be_bytes());
    body.extend(list);
    record(&message(&body))
}

fn message(body: &[u8]) -> Vec<u8> {
    let mut message = vec![1];
    message.extend(&(body.len() as u32).to_be_bytes()[1..]);
    message.extend(body);
    message
}

fn record(content: &[u8]) -> Vec<u8> {
    let mut record = vec![22, 3, 1];
    record.extend((content.len() as u16).to_be_bytes());
    record.extend(content);
    record
}

fn named(names: &[(u8, &str)]) -> (u16, Vec<u8>) {
    let mut list = Vec::new();
    for (kind, name) in names {
        list.push(*kind);
        list.extend((name.len() as u16).to_be_bytes());
        list.extend(name.as_bytes());
    }
    let mut content = (list.len() as u16).to_be_bytes().to_vec();
    content.extend(list);
    (0, content)
}

#[test]
fn the_servers_name_is_read_out_of_a_client_hello() {
    let good = hello(&[
        (10, vec![0, 2, 0, 29]),
        named(&[(0, "Example.COM")]),
        (43, vec![2, 3, 4]),
    ]);
    let found = Opening::Hello(Some("example.com".to_owned()));
    assert_eq!(opening(&good), found);
    // Whatever follows is not looked at, and whatever is missing is waited for.
    let mut more = good.clone();
    more.extend(b"\x17\x03\x03");
    assert_eq!(opening(&more), found);
    for cut in 0..good.len() {
        assert_eq!(opening(&good[..cut]), Opening::Incomplete, "{cut}");
    }
    // Cut into records of one byte each.
    let pieces: Vec<u8> = good[5..].iter().flat_map(|byte| record(&[*byte])).collect();
    assert_eq!(opening(&pieces), found);
    assert_eq!(opening(&hello(&[])), Opening::Hello(None));
    assert_eq!(opening(&hello(&[(16, vec![0])])), Opening::Hello(None));
}

#[test]
fn what_is_no_client_hello_is_told_apart() {
    for other in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"CONNECT a.example:443 HTTP/1.1\r\n",
        b"SSH-2.0-OpenSSH",
        b"\x80\x2e\x01\x03\x01",
        b"\x16\x02\x00\x00\x05",
        b"\x17\x03\x03\x00\x05",
        b"\x00",
    ] {
        assert_eq!(opening(other), Opening::Other, "{other:?}");
    }
    let two_names = hello(&[named(&[(0, "a.example"), (0, "b.example")])]);
    let twice = hello(&[named(&[(0, "a.example")]), named(&[(0, "b.example")])]);
    let other_kind = hello(&[named(&[(1, "a.example")])]);
    let empty = hello(&[named(&[(0, "")])]);
    let no_ascii = hello(&[named(&[(0, "ä.example")])]);
    let mut short_list = hello(&[named(&[(0, "a.example")])]);
    let at = short_list.len() - 9 - 4;
    short_list[at] = 0;
    let mut behind = hello(&[named(&[(0, "a.example")])]);
    let length = behind.len() - 5 + 3;
    behind[3..5].copy_from_slice(&(length as u16).to_be_bytes());
    behind.extend([1, 0, 0]);
    let mut interrupted = record(&message(&[3, 3])[..3]);
    interrupted.extend([21, 3, 3, 0, 2, 1, 0]);
    let server_hello = record(&[2, 0, 0, 1, 0]);
    let empty_record = record(&[]);
    let huge = record(&[1, 0xff, 0xff, 0xff]);
    for (what, bytes) in [
        ("two names", two_names),
        ("the extension twice", twice),
        ("a name of another kind", other_kind),
        ("an empty name", empty),
        ("a name beyond ASCII", no_ascii),
        ("a list that is shorter than its content", short_list),
        ("a message behind it in the record", behind),
        ("another record within", interrupted),
        ("another message", server_hello),
        ("an empty record", empty_record),
        ("a message without end", huge),
        ("a record of another version", vec![22, 3, 9, 0, 1, 1]),
        ("a record that is too long", vec![22, 3, 1, 0xff, 0xff, 1]),
    ] {
        assert_eq!(opening(&bytes), Opening::Malformed, "{what}");
    }
}
