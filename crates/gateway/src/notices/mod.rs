//! Telling people of plans that wait, and of how they ended.
//!
//! Who has to be told follows from where the runs stand ([`store::Notices`]), so no crash loses a
//! notice and nothing is queued. Each channel has a task of its own (`dispatch`), so a slow one
//! delays no other. [`message`] says what there is to tell; `webhook`, `slack` and `email` put it
//! into their own forms.
//!
//! To add a kind of channel: its settings in `config/notices.rs`, its form in a file here, an arm
//! of `Way` in [`channel`].

pub mod channel;
mod dispatch;
mod email;
pub mod message;
mod post;
mod slack;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::app::App;
use crate::config::Config;
use crate::replicas;
use crate::upstream::HttpClient;
use channel::{Channel, NoticeId};
use message::Message;

pub use webhook::new_key;

/// Every channel, with its secret.
pub struct Notices {
    http: HttpClient,
    channels: Vec<Arc<Channel>>,
}

impl Notices {
    /// Fetches the channels' secrets. Nobody is called yet.
    ///
    /// # Errors
    /// When a secret is not to be had, or is not what it must be.
    pub async fn connect(config: &Config, http: HttpClient) -> anyhow::Result<Self> {
        let mut channels = Vec::new();
        for (name, channel) in &config.notices {
            channels.push(Arc::new(Channel::connect(name, channel, config).await?));
        }
        Ok(Self { http, channels })
    }

    /// Every channel, by name.
    pub fn channels(&self) -> &[Arc<Channel>] {
        &self.channels
    }

    /// One channel.
    pub fn channel(&self, name: &str) -> Option<&Channel> {
        let mut channels = self.channels.iter();
        channels.find(|channel| channel.name == name).map(|c| &**c)
    }
}

/// Sends a message that says that it is a test.
///
/// # Errors
/// Why it was not taken.
pub async fn test(app: &App, channel: &Channel) -> Result<String, String> {
    let message = Message::test(app, &channel.name);
    let id = NoticeId::random();
    channel
        .send(&app.notices.http, &message, &id, app.now())
        .await
}

/// Tells people until the gateway stops: a task for each channel.
pub fn start(app: &Arc<App>, stopping: &watch::Receiver<bool>) -> Vec<JoinHandle<()>> {
    let channels = app.notices.channels().iter();
    let start = |channel: &Arc<Channel>| {
        let (app, channel) = (Arc::clone(app), Arc::clone(channel));
        let tell = move |app, stopping| dispatch::tell(app, Arc::clone(&channel), stopping);
        tokio::spawn(replicas::while_leading(app, stopping.clone(), tell))
    };
    channels.map(start).collect()
}

/// Waits for the tasks of a gateway that stops: what is on its way gets some time. What does not
/// get through is sent again at the next start, under the same id.
pub async fn stop(tasks: Vec<JoinHandle<()>>, patience: Duration) {
    let aborts: Vec<_> = tasks.iter().map(JoinHandle::abort_handle).collect();
    let ended = async {
        for task in tasks {
            if task.await.is_err() {
                tracing::error!("the task of a notice channel ended by a panic");
            }
        }
    };
    if timeout(patience, ended).await.is_err() {
        tracing::warn!("a notice was still on its way; the next start sends it again");
    }
    for abort in aborts {
        abort.abort();
    }
}
