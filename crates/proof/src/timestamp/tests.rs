use super::testing::SoftAuthority;
use super::*;

const NOTE: &str = "gateway.example/log\n7\nAAAA\n\n\u{2014} gateway.example/log BBBB\n";

#[test]
fn a_question_is_what_the_standard_says() {
    let (question, nonce) = question(NOTE, [0xff; 16]).unwrap();
    assert_eq!(nonce[0], 0x7f);
    let mut read = only(&question, SEQUENCE).unwrap();
    assert_eq!(read.take(INTEGER), Some(&[1][..]));
    let mut imprint = read.open(SEQUENCE).unwrap();
    assert_eq!(imprint.open(SEQUENCE).unwrap().take(OID), Some(SHA256));
    let hash = Hash::of(b"gateway.example/log\n7\nAAAA\n");
    assert_eq!(imprint.take(OCTET_STRING), Some(&hash.as_bytes()[..]));
    assert_eq!(read.take(INTEGER), Some(&nonce[..]));
    assert_eq!(read.take(BOOLEAN), Some(&[0xff][..]));
    assert!(read.end().is_some());
    assert_eq!(super::question("no note", [0; 16]), None);
    // A witness that signs later changes nothing.
    let more = format!("{NOTE}\u{2014} witness.example CCCC\n");
    assert_eq!(signed_text(NOTE), signed_text(&more));
}

#[test]
fn times_are_read_strictly() {
    let read = |text: &str| instant(text.as_bytes()).map(|at| at.to_string());
    let good = |text: &str| Some(text.to_owned());
    assert_eq!(read("20261123001122Z"), good("2026-11-23T00:11:22.000Z"));
    assert_eq!(read("20261123001122.5Z"), good("2026-11-23T00:11:22.500Z"));
    assert_eq!(
        read("20261123001122.1239Z"),
        good("2026-11-23T00:11:22.123Z")
    );
    for bad in [
        "20261123001122",
        "20261123001122+0100",
        "20261323001122Z",
        "20261123001122.Z",
        "20261123001122.50Z",
        "2026112300112Z",
        "202611230011 2Z",
        "2026112300:122Z",
        "",
    ] {
        assert_eq!(read(bad), None, "{bad}");
    }
}

#[test]
fn an_answer_without_a_token_is_none() {
    let status = |status: u8| write(SEQUENCE, &[&write(INTEGER, &[&[status]])]);
    let answer = |parts: &[&[u8]]| Token::of_answer(&write(SEQUENCE, parts));
    let token = write(SEQUENCE, &[]);
    assert!(answer(&[&status(0), &token]).is_ok());
    assert_eq!(answer(&[&status(2)]), Err(TimestampError::Refused(2)));
    for parts in [
        &[status(0)][..],
        &[status(2), token.clone()],
        std::slice::from_ref(&token),
        &[status(0), token.clone(), token.clone()],
        &[],
    ] {
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        assert!(matches!(answer(&parts), Err(TimestampError::Malformed(_))));
    }
    let huge = vec![0; MAX_TOKEN_BYTES + 1];
    assert_eq!(Token::of_answer(&huge), Err(TimestampError::TooLarge));
    assert!(Token::try_from(to_base64(&huge)).is_err());
    for token in [vec![], vec![0x30, 0x00], vec![0x30; 900]] {
        let read = Token(token).verify(NOTE, None, &[]);
        assert!(matches!(read, Err(TimestampError::Malformed(_))));
    }
}

const AT: i64 = 1_795_300_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(AT + seconds)
}

fn good() -> SoftAuthority {
    SoftAuthority::new(1, at(-1000), at(1000))
}

#[test]
fn a_timestamp_holds_under_the_root_and_under_its_own_certificate() {
    let tsa = good();
    let token = tsa.stamp(NOTE, Some(&[7, 7]), at(0));
    for trusted in [
        vec![tsa.root()],
        vec![tsa.own()],
        vec![good().own(), tsa.root()],
    ] {
        for nonce in [None, Some(&[7, 7][..])] {
            assert_eq!(token.verify(NOTE, nonce, &trusted), Ok(Stamp { at: at(0) }));
        }
    }
    let text = String::from(token.clone());
    assert_eq!(Token::try_from(text), Ok(token));
    // Lines of witnesses that come later.
    let more = format!("{NOTE}\u{2014} witness.example CCCC\n");
    let token = tsa.stamp(NOTE, None, at(0));
    assert!(token.verify(&more, None, &[tsa.root()]).is_ok());
}

#[test]
fn each_lie_is_refused_for_what_it_is() {
    use TimestampError as E;
    use testing::Purpose::*;
    let tsa = good();
    let trusted = [tsa.root()];
    let stamped = |tsa: &SoftAuthority| tsa.stamp(NOTE, Some(&[7, 7]), at(0));
    let judge = |token: &Token| token.verify(NOTE, Some(&[7, 7]), &trusted).unwrap_err();
    let other = NOTE.replacen("\n7\n", "\n8\n", 1);
    assert_eq!(
        judge(&tsa.stamp(&other, Some(&[7, 7]), at(0))),
        E::WrongImprint
    );
    assert_eq!(judge(&tsa.stamp(NOTE, Some(&[7, 8]), at(0))), E::WrongNonce);
    assert_eq!(judge(&tsa.stamp(NOTE, None, at(0))), E::WrongNonce);
    for moment in [at(-1001), at(1001)] {
        let token = tsa.stamp(NOTE, Some(&[7, 7]), moment);
        assert_eq!(judge(&token), E::NotValidThen(moment));
    }
    let foreign = SoftAuthority::new(2, at(-1000), at(1000));
    assert!(matches!(judge(&stamped(&foreign)), E::UnknownAuthority(_)));
    let nobody = stamped(&tsa).verify(NOTE, None, &[]);
    assert!(matches!(nobody, Err(E::UnknownAuthority(_))));
    for purpose in [NotCritical, More, Other, Unsaid] {
        let mut wrong = good();
        wrong.purpose = purpose;
        assert!(
            matches!(judge(&stamped(&wrong)), E::WrongPurpose(_)),
            "{purpose:?}"
        );
        // Nor when it is trusted itself.
        let own = stamped(&wrong).verify(NOTE, None, &[wrong.own()]);
        assert!(matches!(own, Err(E::WrongPurpose(_))), "{purpose:?}");
    }
}

#[test]
fn no_byte_can_be_changed_to_another_meaning() {
    let tsa = good();
    let trusted = [tsa.root()];
    let token = tsa.stamp(NOTE, Some(&[7, 7]), at(0));
    let (mut refused, mut same) = (0, 0);
    for place in 0.. {
        let flipped = [0x01, 0x80, 0xff].map(|bits| token.flipped(place, bits));
        for flipped in flipped {
            let Some(flipped) = flipped else {
                // What is not signed is not read: the list of digests alone.
                assert!(refused > 2000 && same < 60, "{refused} {same}");
                return;
            };
            match flipped.verify(NOTE, Some(&[7, 7]), &trusted) {
                Ok(stamp) => {
                    assert_eq!(stamp, Stamp { at: at(0) }, "byte {place}");
                    same += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
}
