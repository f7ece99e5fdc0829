//! What a name server answers.

use hickory_proto::op::Message;
use hickory_proto::rr::{DNSClass, Name as Theirs, RData};
use names::message::{Family, MAX_ADDRESSES, Name, Question, Said};

/// The name that is asked for; the seeds repeat it.
const NAME: &str = "db.example";

/// The id of the question.
const ID: u16 = 0x1234;

/// Addresses are those that another reader finds at the end of the aliases, of the family that was
/// asked for.
pub fn names(data: &[u8]) {
    for family in [Family::V4, Family::V6] {
        let name = Name::parse(NAME).expect("it is one");
        let Said::Addresses(found) = Question::new(ID, name, family).read(data) else {
            continue;
        };
        assert!(found.len() <= MAX_ADDRESSES);
        assert!(
            found
                .iter()
                .all(|ip| ip.is_ipv4() == (family == Family::V4))
        );
        // It reads all sections, and so refuses more.
        let Ok(message) = Message::from_vec(data) else {
            continue;
        };
        if u16::from(message.metadata.response_code) == 0 {
            assert_eq!(found, theirs(&message, family));
        } else {
            assert!(found.is_empty());
        }
    }
}

fn theirs(message: &Message, family: Family) -> Vec<std::net::IpAddr> {
    let mut name = Theirs::from_ascii(format!("{NAME}.")).expect("it is one");
    let records = || {
        let all = message.answers.iter();
        all.filter(|record| record.dns_class == DNSClass::IN)
    };
    loop {
        let own = records().filter(|record| record.name == name);
        let addresses = own
            .clone()
            .filter_map(|record| match (&record.data, family) {
                (RData::A(ip), Family::V4) => Some(ip.0.into()),
                (RData::AAAA(ip), Family::V6) => Some(ip.0.into()),
                _ => None,
            });
        let addresses: Vec<_> = addresses.take(MAX_ADDRESSES).collect();
        let alias = own.clone().find_map(|record| match &record.data {
            RData::CNAME(to) => Some(&to.0),
            _ => None,
        });
        match alias {
            Some(to) if addresses.is_empty() => name = to.clone(),
            _ => return addresses,
        }
    }
}
