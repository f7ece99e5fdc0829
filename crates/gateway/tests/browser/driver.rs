//! A real browser: headless Chromium, driven by the WebDriver protocol.
//!
//! The protocol is JSON over HTTP, so that this needs no library of its own.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Longest that one step may take on a busy machine: a test that hangs should fail.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

const HOW_TO: &str = "on Debian `apt-get install chromium chromium-driver` brings them";

/// A program, or `None` after saying that the test is skipped and how to get it. In CI it must be
/// there.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name));
    if let Some(found) = found.into_iter().find(|path| path.is_file()) {
        return Some(found);
    }
    missing(&format!("`{name}` is not on the PATH; {HOW_TO}"));
    None
}

fn missing(what: &str) {
    assert!(std::env::var_os("CI").is_none(), "{what}");
    println!("skipped: {what}");
}

/// The accessibility checker; as with the browser, CI must have it.
pub(crate) fn axe() -> Option<String> {
    let folder = std::env::var_os("CLAWGATE_NODE_MODULES").map(PathBuf::from);
    let file = folder.map(|folder| folder.join("axe-core/axe.min.js"));
    let source = file.and_then(|file| std::fs::read_to_string(file).ok());
    if source.is_none() {
        missing(
            "axe-core is not there: `npm install --prefix DIR axe-core`, then set \
             CLAWGATE_NODE_MODULES to DIR/node_modules",
        );
    }
    source
}

/// Node, and the folder of packages that has this one; as with the browser, CI must have it.
pub(crate) fn node(package: &str) -> Option<(PathBuf, PathBuf)> {
    let node = program("node")?;
    let folder = std::env::var_os("CLAWGATE_NODE_MODULES").map(PathBuf::from);
    let folder = folder.filter(|folder| folder.join(package).is_dir());
    if folder.is_none() {
        missing(&format!(
            "{package} is not there: `npm install --prefix DIR {package}`, then set \
             CLAWGATE_NODE_MODULES to DIR/node_modules"
        ));
    }
    Some((node, folder?))
}

/// A browser with nothing in it.
pub(crate) struct Browser {
    _driver: Child,
    http: Client<HttpConnector, Full<Bytes>>,
    /// Address of the session.
    session: String,
}

impl Drop for Browser {
    /// Ends the session, and with it the browser: chromedriver, when it is killed, leaves its
    /// browser behind. What cannot be ended within a bound is left.
    fn drop(&mut self) {
        use std::io::{Read, Write};
        let Some((host, path)) = self
            .session
            .strip_prefix("http://")
            .and_then(|address| address.split_once('/'))
        else {
            return;
        };
        let Ok(mut stream) = std::net::TcpStream::connect(host) else {
            return;
        };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
        let request =
            format!("DELETE /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        if stream.write_all(request.as_bytes()).is_ok() {
            // It answers when the browser has ended.
            let _ = stream.read(&mut [0; 512]);
        }
    }
}

/// A form that is signed with a passkey.
#[derive(Debug, Clone)]
pub(crate) struct PasskeyForm {
    pub(crate) action: String,
    pub(crate) options: Value,
    pub(crate) token: String,
    pub(crate) statement: String,
}

/// An element of the page.
#[derive(Debug, Clone)]
pub(crate) struct Element(String);

/// The protocol's name for an element's id.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

impl Browser {
    /// Starts one in which names lead where the rules say; `None` where there is none.
    pub(crate) async fn start(names: &str) -> Option<Self> {
        let (driver, binary) = (program("chromedriver")?, program("chromium")?);
        let mut driver = Command::new(driver)
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = tokio::time::timeout(PATIENCE, async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Some((_, port)) = line.split_once("started successfully on port ") {
                    return port.trim_end_matches('.').parse::<u16>().unwrap();
                }
            }
            panic!("chromedriver ended");
        });
        let port = port.await.expect("chromedriver says its port");
        // Whatever it says later must not fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let mut browser = Self {
            _driver: driver,
            http: Client::builder(TokioExecutor::new()).build(HttpConnector::new()),
            session: format!("http://127.0.0.1:{port}/session"),
        };
        let args = [
            "--headless=new",
            // Its sandbox needs privileges that a build machine does not give.
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--force-color-profile=srgb",
            &format!("--host-resolver-rules={names}"),
        ];
        let made = browser
            .post(
                "",
                &json!({"capabilities": {"alwaysMatch": {
                    "goog:chromeOptions": {"binary": binary, "args": args},
                    "goog:loggingPrefs": {"performance": "ALL"},
                    "webauthn:virtualAuthenticators": true,
                }}}),
            )
            .await;
        let id = made["sessionId"].as_str().expect("a session");
        browser.session = format!("{}/{id}", browser.session);
        browser
            .post("/timeouts", &json!({"implicit": 20_000}))
            .await;
        browser.look(1400, false).await;
        Some(browser)
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Value> {
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.session))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .unwrap();
        let answer = tokio::time::timeout(PATIENCE, async {
            let answer = self.http.request(request).await.unwrap();
            let good = answer.status().is_success();
            (good, answer.into_body().collect().await.unwrap().to_bytes())
        });
        let (good, bytes) = answer
            .await
            .unwrap_or_else(|_| panic!("no answer to {path}"));
        let answer: Value = serde_json::from_slice(&bytes).unwrap();
        let value = answer["value"].clone();
        if good { Ok(value) } else { Err(value) }
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.send(Method::POST, path, Some(body)).await;
        answer.unwrap_or_else(|error| panic!("{path}: {error:#}"))
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.send(Method::GET, path, None).await;
        answer.unwrap_or_else(|error| panic!("{path}: {error:#}"))
    }

    /// A command of the DevTools protocol.
    pub(crate) async fn devtools(&self, command: &str, params: Value) -> Value {
        let body = json!({"cmd": command, "params": params});
        self.post("/goog/cdp/execute", &body).await
    }

    /// Opens a page and waits until it is loaded.
    pub(crate) async fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url })).await;
    }

    pub(crate) async fn url(&self) -> String {
        self.get("/url").await.as_str().unwrap().to_owned()
    }

    pub(crate) async fn title(&self) -> String {
        self.get("/title").await.as_str().unwrap().to_owned()
    }

    /// The page's text as somebody sees it.
    pub(crate) async fn text(&self) -> String {
        let text = self
            .script("return document.body.innerText", json!([]))
            .await;
        text.as_str().unwrap().to_owned()
    }

    /// Runs a script in the page; a promise is waited for.
    pub(crate) async fn script(&self, script: &str, args: Value) -> Value {
        let body = json!({"script": script, "args": args});
        self.post("/execute/sync", &body).await
    }

    #[track_caller]
    pub(crate) fn find(&self, css: &str) -> impl Future<Output = Element> {
        let caller = std::panic::Location::caller();
        let body = json!({"using": "css selector", "value": css});
        async move {
            let found = self.send(Method::POST, "/element", Some(&body)).await;
            let found = found.unwrap_or_else(|error| panic!("{caller}: {error:#}"));
            Element(found[ELEMENT].as_str().unwrap().to_owned())
        }
    }

    /// Clicks; a page that follows is loaded when this returns.
    #[track_caller]
    pub(crate) fn click(&self, css: &str) -> impl Future<Output = ()> {
        let (caller, element) = (std::panic::Location::caller(), self.find(css));
        async move {
            let Element(id) = element.await;
            let path = format!("/element/{id}/click");
            let clicked = self.send(Method::POST, &path, Some(&json!({}))).await;
            clicked.unwrap_or_else(|error| panic!("{caller}: {error:#}"));
        }
    }

    /// Waits until the page says something: the protocol waits for elements, and for pages that
    /// are loading.
    pub(crate) async fn sees(&self, text: &str) {
        let path = format!("//*[contains(normalize-space(.), {text:?})]");
        let body = json!({"using": "xpath", "value": path});
        let found = self.send(Method::POST, "/element", Some(&body)).await;
        assert!(found.is_ok(), "{text} is not in: {}", self.text().await);
    }

    pub(crate) async fn write(&self, css: &str, text: &str) {
        let Element(id) = self.find(css).await;
        let body = json!({ "text": text });
        self.post(&format!("/element/{id}/value"), &body).await;
    }

    /// Gives the browser an authenticator of its own, whose owner is there and recognised.
    pub(crate) async fn authenticator(&self) -> String {
        let made = json!({
            "protocol": "ctap2", "transport": "internal", "hasResidentKey": true,
            "hasUserVerification": true, "isUserVerified": true,
        });
        let id = self.post("/webauthn/authenticator", &made).await;
        id.as_str().unwrap().to_owned()
    }

    /// Whether the authenticator recognises its owner from now on.
    pub(crate) async fn recognises(&self, authenticator: &str, owner: bool) {
        let path = format!("/webauthn/authenticator/{authenticator}/uv");
        self.post(&path, &json!({ "isUserVerified": owner })).await;
    }

    /// The form that the page holds for a passkey: where it leads, what it asks the authenticator,
    /// and its fields.
    pub(crate) async fn passkey_form(&self) -> PasskeyForm {
        let form = "const form = document.querySelector('form[data-passkey]');
            return [form.action, JSON.parse(form.dataset.passkeyOptions),
                form.elements['form-token'].value, form.elements.statement.value]";
        let form = self.script(form, json!([])).await;
        let text = |place: usize| form[place].as_str().unwrap().to_owned();
        PasskeyForm {
            action: text(0),
            options: form[1].clone(),
            token: text(2),
            statement: text(3),
        }
    }

    /// Signs what a form asks for with the authenticator, and sends it, whatever page it is from.
    pub(crate) async fn send_passkey_form(&self, form: &PasskeyForm) {
        let script = "const [action, options, token, statement] = arguments;
            const bytes = text => Uint8Array.from(
                atob(text.replace(/-/g, '+').replace(/_/g, '/')), c => c.charCodeAt(0));
            const text = buffer => btoa(String.fromCharCode(...new Uint8Array(buffer)))
                .replace(/\\+/g, '-').replace(/\\//g, '_').replace(/=+$/, '');
            return navigator.credentials.get({publicKey: {...options,
                challenge: bytes(options.challenge),
                allowCredentials: options.allowCredentials.map(c => ({...c, id: bytes(c.id)})),
            }}).then(made => {
                const assertion = JSON.stringify({
                    credential_id: text(made.rawId),
                    authenticator_data: text(made.response.authenticatorData),
                    client_data_json: text(made.response.clientDataJSON),
                    signature: text(made.response.signature),
                });
                const form = document.createElement('form');
                form.method = 'post';
                form.action = action;
                const fields = {'form-token': token, statement, assertion};
                for (const [name, value] of Object.entries(fields)) {
                    const field = document.createElement('input');
                    Object.assign(field, {type: 'hidden', name, value});
                    form.append(field);
                }
                const button = document.createElement('button');
                button.id = 'forged';
                button.textContent = 'Send';
                form.append(button);
                document.querySelector('main').prepend(form);
            })";
        let form = json!([form.action, form.options, form.token, form.statement]);
        self.script(script, form).await;
        self.click("#forged").await;
    }

    /// How wide the window is, in CSS pixels, and whether the person likes it dark.
    pub(crate) async fn look(&self, width: u32, dark: bool) {
        let size = json!({
            "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", size)
            .await;
        let scheme = if dark { "dark" } else { "light" };
        // Nothing moves under the pointer.
        let media = json!({"features": [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]});
        self.devtools("Emulation.setEmulatedMedia", media).await;
    }

    /// Every address that was asked for since the last time.
    pub(crate) async fn requests(&self) -> Vec<String> {
        let log = self.post("/se/log", &json!({"type": "performance"})).await;
        let entries = log.as_array().unwrap().iter();
        let messages = entries.map(|entry| {
            let message = entry["message"].as_str().unwrap();
            serde_json::from_str::<Value>(message).unwrap()["message"].clone()
        });
        messages
            .filter(|message| message["method"] == "Network.requestWillBeSent")
            .map(|message| {
                let url = &message["params"]["request"]["url"];
                url.as_str().unwrap().to_owned()
            })
            .collect()
    }

    /// The whole page as a picture.
    pub(crate) async fn picture(&self) -> Vec<u8> {
        let height = "return Math.min(document.documentElement.scrollHeight, 4000)";
        let size = self.script(height, json!([])).await;
        let width = self.script("return innerWidth", json!([])).await;
        let clip = json!({"x": 0, "y": 0, "width": width, "height": size, "scale": 1});
        self.capture(json!({"captureBeyondViewport": true, "clip": clip}))
            .await
    }

    /// The page on paper (A4): a PDF, and of how many pages.
    pub(crate) async fn print(&self) -> (Vec<u8>, usize) {
        use base64::Engine as _;
        let paper = json!({"page": {"width": 21.0, "height": 29.7}, "shrinkToFit": true});
        let text = self.post("/print", &paper).await;
        let text = text.as_str().unwrap();
        let pdf = base64::engine::general_purpose::STANDARD.decode(text);
        let pdf = pdf.unwrap();
        // Dictionaries stand uncompressed; one of each page has this entry, the tree another.
        let entry = b"/Type /Page\n";
        let pages = pdf.windows(entry.len()).filter(|found| found == entry);
        let pages = pages.count();
        (pdf, pages)
    }

    /// What the window shows, as a picture.
    pub(crate) async fn view(&self) -> Vec<u8> {
        self.capture(json!({})).await
    }

    async fn capture(&self, params: Value) -> Vec<u8> {
        use base64::Engine as _;
        let answer = self.devtools("Page.captureScreenshot", params).await;
        let text = answer["data"].as_str().unwrap();
        base64::engine::general_purpose::STANDARD
            .decode(text)
            .unwrap()
    }
}
