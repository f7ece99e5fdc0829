//! Our cookies: out of every script's reach, for exactly this host.

use http::{HeaderMap, HeaderValue, header};
use zeroize::Zeroizing;

use crate::app::App;

/// Longest text of a cookie that is read.
const MAX_LENGTH: usize = 1024;

/// A cookie of ours.
#[derive(Debug, Clone, Copy)]
pub struct Cookie {
    plain: &'static str,
    /// A browser takes a `__Host-` cookie over TLS only, for exactly this host and all its paths,
    /// so that no neighbour can plant one.
    secure: &'static str,
    attributes: &'static str,
}

/// Who is signed in. It never comes with a request that another site caused.
pub const SESSION: Cookie = Cookie {
    plain: "clawgate",
    secure: "__Host-clawgate",
    attributes: "; Path=/; HttpOnly; SameSite=Strict",
};

/// A sign-in that has begun. It comes back with a browser that the provider sends here, which a
/// strict cookie does not; alone it opens nothing.
pub const SIGN_IN: Cookie = Cookie {
    plain: "clawgate-oidc",
    secure: "__Host-clawgate-oidc",
    attributes: "; Max-Age=600; Path=/; HttpOnly; SameSite=Lax",
};

impl Cookie {
    /// Gives it to a browser.
    pub fn set(self, app: &App, text: &str) -> HeaderValue {
        self.with(app, text, self.attributes)
    }

    /// Takes it away.
    pub fn forget(self, app: &App) -> HeaderValue {
        self.with(app, "", "; Max-Age=0; Path=/; HttpOnly; SameSite=Lax")
    }

    /// Its text, when there is exactly one of the name.
    pub fn sent(self, app: &App, headers: &HeaderMap) -> Option<Zeroizing<String>> {
        only(headers, self.name(app))
    }

    fn with(self, app: &App, text: &str, attributes: &str) -> HeaderValue {
        let secure = if is_https(app) { "; Secure" } else { "" };
        let name = self.name(app);
        let text = Zeroizing::new(format!("{name}={text}{attributes}{secure}"));
        let mut value = HeaderValue::try_from(text.as_str()).expect("plain ASCII");
        value.set_sensitive(true);
        value
    }

    fn name(self, app: &App) -> &'static str {
        if is_https(app) {
            self.secure
        } else {
            self.plain
        }
    }
}

fn is_https(app: &App) -> bool {
    app.operator_url.starts_with("https://")
}

fn only(headers: &HeaderMap, name: &str) -> Option<Zeroizing<String>> {
    let lines = headers.get_all(header::COOKIE).iter();
    let pairs = lines.filter_map(|line| line.to_str().ok());
    let pairs = pairs.flat_map(|line| line.split(';'));
    let mut own = pairs.filter_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        (key == name).then_some(value)
    });
    let (value, None) = (own.next()?, own.next()) else {
        return None;
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let good = (1..=MAX_LENGTH).contains(&value.len()) && value.bytes().all(plain);
    good.then(|| Zeroizing::new(value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cookie_of_the_name_is_read() {
        let good = "A".repeat(43);
        let read = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::COOKIE, line.parse().unwrap());
            }
            only(&headers, "clawgate").map(|text| text.to_string())
        };
        let pair = format!("clawgate={good}");
        assert_eq!(read(&[&format!("a=b; {pair}; c")]), Some(good.clone()));
        assert_eq!(read(&["a=b", &pair]), Some(good.clone()));
        for lines in [
            &[][..],
            &["a=b"],
            &["clawgate="],
            &[&format!("clawgate={}", "A".repeat(MAX_LENGTH + 1))],
            &[&format!("clawgate={}", "!".repeat(43))],
            &[&format!("{pair}; {pair}")],
            &[&pair, &pair],
            &[&format!("__Host-{pair}")],
            &[&format!("Clawgate={good}")],
        ] {
            assert_eq!(read(lines), None, "{lines:?}");
        }
    }
}
