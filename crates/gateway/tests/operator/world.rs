//! A gateway that serves, with an author, an approver and an operator for each role.

use bytes::Bytes;
use clawgate::config::Config;
use clawgate::keys::{Keys, random_key};
use clawgate::operator::credential::{self, Role};
use clawgate::start::{Running, start};
use clawgate::upstream::{HttpClient, http_client};
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use policy::EXAMPLE_CONTRACT;
use policy::contract::Email;
use proof::{Envelope, EnvelopeType, Hash, Json, Numbers, SigningKey};
use serde_json::{Value, json};
use sim::{Engine, TerraformCloud, TerraformCloudConfig};
use tempfile::TempDir;

/// The contract's approver.
pub(crate) const APPROVER: &str = "infra-lead@example.com";

pub(crate) struct World {
    pub(crate) cloud: TerraformCloud,
    pub(crate) gateway: Running,
    pub(crate) author: SigningKey,
    pub(crate) approver: SigningKey,
    http: HttpClient,
    pub(crate) folder: TempDir,
    differs: Differs,
}

/// How a world differs from the plain one.
#[derive(Debug, Clone, Copy, Default)]
struct Differs {
    /// More lines at the head of the configuration.
    more: &'static str,
    /// How people know the operator listener.
    public_url: Option<&'static str>,
    /// One more certificate authority to believe, a file.
    authority: Option<&'static str>,
}

/// An answer of the operator listener.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) bytes: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The answer's document; anything but success is a failed test.
    pub(crate) fn ok(self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, self.json());
        self.json()
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with("").await
    }

    /// With more lines at the head of the configuration.
    pub(crate) async fn with(more: &'static str) -> Self {
        Self::made(Differs {
            more,
            ..Differs::default()
        })
        .await
    }

    /// With an operator listener that people know by this address.
    pub(crate) async fn at(public_url: &'static str) -> Self {
        let public_url = Some(public_url);
        Self::made(Differs {
            public_url,
            ..Differs::default()
        })
        .await
    }

    /// With a file of one more certificate authority to believe.
    pub(crate) async fn believing(more: &'static str, authority: &'static str) -> Self {
        let authority = Some(authority);
        Self::made(Differs {
            more,
            authority,
            ..Differs::default()
        })
        .await
    }

    async fn made(differs: Differs) -> Self {
        let cloud = TerraformCloud::start(TerraformCloudConfig::acme(Engine::Recorded));
        let cloud = cloud.await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (author, approver) = (random_key(), random_key());
        let config = config(&folder, &cloud, &author, &approver, differs);
        Keys::create(&config.keys_dir()).unwrap();
        let http = http_client(&config).unwrap();
        let gateway = start(config).await.unwrap();
        Self {
            cloud,
            gateway,
            author,
            approver,
            http,
            folder,
            differs,
        }
    }

    /// Stops the gateway and starts another one on the same folder, doing `between` in between.
    pub(crate) async fn restarted(self, between: impl AsyncFnOnce(&Config)) -> Self {
        let config = config(
            &self.folder,
            &self.cloud,
            &self.author,
            &self.approver,
            self.differs,
        );
        self.gateway.stop().await;
        between(&config).await;
        let gateway = start(config).await.unwrap();
        Self { gateway, ..self }
    }

    /// Stops it and says why it does not start again.
    pub(crate) async fn not_started(self) -> String {
        self.stopped().await.start_again().await.err().unwrap()
    }

    /// Starts another gateway on the same folder and says why it does not serve.
    pub(crate) async fn not_started_beside(&self) -> String {
        let config = config(
            &self.folder,
            &self.cloud,
            &self.author,
            &self.approver,
            self.differs,
        );
        format!("{:#}", start(config).await.err().unwrap())
    }

    /// Stops the gateway; all else stays.
    pub(crate) async fn stopped(self) -> Stopped {
        let config = config(
            &self.folder,
            &self.cloud,
            &self.author,
            &self.approver,
            self.differs,
        );
        self.gateway.stop().await;
        Stopped {
            config,
            _folder: self.folder,
            _cloud: self.cloud,
        }
    }

    /// The same with other lines at the head of the configuration.
    pub(crate) async fn restarted_with(mut self, more: &'static str) -> Self {
        self.differs.more = more;
        self.restarted(async |_| {}).await
    }

    /// A new operator's credential.
    pub(crate) async fn operator(&self, name: &str, roles: &[Role]) -> String {
        self.person(name, None, roles).await
    }

    /// The same of an operator of whom it is known who that is.
    pub(crate) async fn person(&self, name: &str, email: Option<&Email>, roles: &[Role]) -> String {
        let app = &self.gateway.app;
        credential::add(&*app.store, name, email, roles, app.now())
            .await
            .unwrap()
            .to_string()
    }

    pub(crate) async fn admin(&self) -> Caller<'_> {
        let name = format!("admin-{}", clawgate::keys::random_uuid());
        let credential = self.operator(&name, &[Role::Admin]).await;
        Caller {
            world: self,
            credential,
        }
    }

    /// Calls the operator listener, and leaves the answer to be read.
    pub(crate) async fn open(&self, request: http::request::Builder) -> http::Response<Incoming> {
        let request: Request<Full<Bytes>> = request.body(Full::default()).unwrap();
        self.http.request(request).await.unwrap()
    }

    /// Calls the operator listener. Of an answer that goes on, the head.
    pub(crate) async fn call(&self, request: http::request::Builder, body: Vec<u8>) -> Answer {
        let request: Request<Full<Bytes>> = request.body(Full::new(Bytes::from(body))).unwrap();
        let (parts, body) = self.http.request(request).await.unwrap().into_parts();
        let goes_on = parts
            .headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind == "text/event-stream");
        let bytes = match goes_on {
            true => Bytes::new(),
            false => body.collect().await.unwrap().to_bytes(),
        };
        Answer {
            status: parts.status,
            headers: parts.headers,
            bytes,
        }
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> http::request::Builder {
        let method: Method = method.parse().unwrap();
        Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.gateway.operator_address))
    }

    /// An agent asks about its own job.
    pub(crate) async fn agent_view(&self, token: &str) -> Answer {
        let request = Request::builder()
            .uri(format!("{}/v1/job", self.gateway.agent_url))
            .header(header::AUTHORIZATION, format!("Bearer {token}"));
        self.call(request, Vec::new()).await
    }

    /// An agent reads its workspace through the Terraform lane.
    pub(crate) async fn agent_reads(&self, token: &str) -> Answer {
        let path = "/api/v2/organizations/acme/workspaces/staging-app";
        let request = Request::builder()
            .uri(format!("{}{path}", self.gateway.agent_url))
            .header(header::AUTHORIZATION, format!("Bearer {token}"));
        self.call(request, Vec::new()).await
    }

    /// The example contract, one text replaced by another, signed by the author.
    pub(crate) fn contract(&self, from: &str, to: &str) -> Envelope {
        let text = EXAMPLE_CONTRACT.replace(from, to);
        let contract: Json = proof::json::parse(text.as_bytes(), Numbers::Integers).unwrap();
        let at = self.gateway.app.now();
        Envelope::sign(
            EnvelopeType::WorkPolicyContract,
            &contract,
            &self.author,
            at,
        )
        .unwrap()
    }
}

/// A world whose gateway was stopped.
pub(crate) struct Stopped {
    config: Config,
    _folder: TempDir,
    _cloud: TerraformCloud,
}

impl Stopped {
    /// Starts it, or says why not.
    pub(crate) async fn start_again(&self) -> Result<(), String> {
        match start(self.config.clone()).await {
            Ok(gateway) => {
                gateway.stop().await;
                Ok(())
            }
            Err(error) => Err(format!("{error:#}")),
        }
    }
}

/// Somebody with a credential.
pub(crate) struct Caller<'a> {
    pub(crate) world: &'a World,
    pub(crate) credential: String,
}

impl Caller<'_> {
    pub(crate) async fn get(&self, path: &str) -> Answer {
        let request = self.world.request("GET", path);
        let bearer = format!("Bearer {}", self.credential);
        self.world
            .call(request.header(header::AUTHORIZATION, bearer), Vec::new())
            .await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_as(path, "application/json", serde_json::to_vec(body).unwrap())
            .await
    }

    pub(crate) async fn post_as(&self, path: &str, kind: &str, body: Vec<u8>) -> Answer {
        let request = self
            .world
            .request("POST", path)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.credential))
            .header(header::CONTENT_TYPE, kind);
        self.world.call(request, body).await
    }

    /// Publishes the example contract and returns its hash.
    pub(crate) async fn publish(&self) -> Hash {
        let envelope = self.world.contract("", "");
        let made = self
            .post("/v1/contracts", &json!({ "envelope": envelope }))
            .await
            .ok();
        made["policy_hash_b64u"].as_str().unwrap().parse().unwrap()
    }

    /// Opens a job under the example contract and returns its id.
    pub(crate) async fn job(&self) -> String {
        let hash = self.publish().await;
        let body = json!({ "name": "a job", "policy_hash_b64u": hash });
        let opened = self.post("/v1/jobs", &body).await.ok();
        opened["job_id"].as_str().unwrap().to_owned()
    }

    /// Issues a token for a job and returns its text.
    pub(crate) async fn token(&self, job: &str) -> String {
        let issued = self
            .post("/v1/tokens", &json!({ "job_id": job }))
            .await
            .ok();
        issued["token"].as_str().unwrap().to_owned()
    }

    /// Verifies a closed job's bundle with the separate verifier.
    pub(crate) async fn verify(&self, job: &str) -> clawverify::Report {
        let bundle = self.get(&format!("/v1/jobs/{job}/bundle")).await;
        assert_eq!(bundle.status, 200);
        let trust = self.get("/v1/trust").await;
        clawverify::verify(&bundle.bytes, &trust.bytes, &clawverify::Options::default())
    }
}

fn config(
    folder: &TempDir,
    cloud: &TerraformCloud,
    author: &SigningKey,
    approver: &SigningKey,
    differs: Differs,
) -> Config {
    let Differs {
        more,
        public_url,
        authority,
    } = differs;
    let file = |name: &str| {
        let path = folder.path().join(format!("{name}.token"));
        std::fs::write(&path, cloud.token(name)).unwrap();
        format!("{{ file = \"{}\" }}", path.display())
    };
    let public_url = public_url.map(|url| format!(", public_url = \"{url}\""));
    let public_url = public_url.unwrap_or_default();
    let archivist = cloud.archivist_url();
    let archivist = archivist.trim_start_matches("http://");
    let text = format!(
        r#"
        gateway_id = "gateway.example"
        data_dir = "{data}"
        agent_listener = {{ address = "127.0.0.1:0" }}
        operator_listener = {{ address = "127.0.0.1:0"{public_url} }}
        authors = [{{ name = "Ada", did = "{author}" }}]
        approvers = [{{ email = "{APPROVER}", did = "{approver}" }}]
        {more}
        [limits]
        drain_seconds = 1
        [terraform_cloud]
        url = "{url}"
        object_hosts = ["{archivist}"]
        planner = {planner}
        executor = {executor}
        reader = {reader}
        {ca_file}
        "#,
        ca_file = authority.map_or_else(String::new, |file| format!("ca_file = \"{file}\"")),
        data = folder.path().display(),
        author = author.did(),
        approver = approver.did(),
        url = cloud.url(),
        planner = file("planner"),
        executor = file("executor"),
        reader = file("reader"),
    );
    // For commands that are run beside the gateway.
    std::fs::write(folder.path().join("clawgate.toml"), &text).unwrap();
    toml::from_str(&text).unwrap()
}
