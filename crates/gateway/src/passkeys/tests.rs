//! Addresses and texts; ceremonies are tested over the wire.

use super::*;

#[test]
fn a_site_is_a_name_that_browsers_make_passkeys_for() {
    for (url, rp_id, origin) in [
        (
            "https://a.example.com",
            "a.example.com",
            "https://a.example.com",
        ),
        (
            "https://A.Example.com:443/clawgate",
            "a.example.com",
            "https://a.example.com",
        ),
        (
            "https://a.example.com:8443",
            "a.example.com",
            "https://a.example.com:8443",
        ),
        (
            "http://localhost:8788",
            "localhost",
            "http://localhost:8788",
        ),
        ("http://localhost:80", "localhost", "http://localhost"),
        (
            "http://ops.localhost",
            "ops.localhost",
            "http://ops.localhost",
        ),
    ] {
        let site = site_of(url).unwrap();
        assert_eq!(
            (site.rp_id.as_str(), site.origins),
            (rp_id, vec![origin.to_owned()])
        );
    }
    for (url, why) in [
        ("http://a.example.com", NoSite::NotSecure),
        ("http://localhost.example.com", NoSite::NotSecure),
        ("http://127.0.0.1:8788", NoSite::Number),
        ("https://127.1", NoSite::Number),
        ("https://[::1]:8788", NoSite::Number),
        ("https://a.example.com.", NoSite::Number),
        ("ftp://a.example.com", NoSite::NotAnAddress),
        ("/path", NoSite::NotAnAddress),
        ("", NoSite::NotAnAddress),
    ] {
        assert_eq!(site_of(url), Err(why), "{url}");
    }
}

#[test]
fn answers_of_authenticators_are_read_strictly_and_within_bounds() {
    let good = r#"{"credential_id":"AQ","authenticator_data":"AQ","client_data_json":"e30","signature":"AQ"}"#;
    let read: Assertion = good.parse().unwrap();
    assert_eq!(read.credential_id, [1]);
    assert_eq!(read.signed.client_data_json, b"{}");
    let long = "A".repeat(20_000);
    for bad in [
        "",
        "{}",
        &good.replace("\"AQ\",\"auth", "\"AR\",\"auth"),
        &good.replace("AQ", "AQ=="),
        &good.replace("{\"cred", "{\"more\":1,\"cred"),
        &good.replace("{\"cred", "{\"signature\":\"AQ\",\"cred"),
        &good.replace("e30", &long),
        &good.replace(
            "\"signature\":\"AQ\"",
            &format!("\"signature\":\"{}\"", &long[..200]),
        ),
        &format!("{good} ").repeat(2),
    ] {
        assert!(bad.parse::<Assertion>().is_err(), "{bad:.120}");
    }
    let good = r#"{"authenticator_data":"AQ","client_data_json":"e30"}"#;
    assert!(good.parse::<Registration>().is_ok());
    assert!(good.replace("e30", "e3").parse::<Registration>().is_err());
}

#[test]
fn options_ask_for_a_verified_person() {
    let site = site_of("https://a.example.com").unwrap();
    let options = request_options(&site, b"challenge", &[b"\x01"]);
    assert_eq!(options["userVerification"], "required");
    assert_eq!(options["challenge"], "Y2hhbGxlbmdl");
    assert_eq!(options["allowCredentials"][0]["id"], "AQ");
    let options = creation_options(&site, "gw", b"challenge", "ada@example.com", &[b"\x01"]);
    assert_eq!(
        options["authenticatorSelection"]["userVerification"],
        "required"
    );
    assert_eq!(options["attestation"], "none");
    assert_eq!(options["rp"]["id"], "a.example.com");
    assert_eq!(options["excludeCredentials"][0]["id"], "AQ");
    let user = options["user"]["id"].as_str().unwrap();
    assert!(!user.contains("ada") && user.len() == 43);
}
