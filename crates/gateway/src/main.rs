//! The `clawgate` command.
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(tracing_subscriber::EnvFilter::try_from_env("CLAWGATE_LOG").unwrap_or_else(|_| "warn".into())).init();
    let ok = clawgate::demo::play(clawgate::demo::DemoOptions { once: true, out: Some("demo-out".into()) }).await?;
    std::process::exit(if ok {0} else {1});
}
