//! A loopback listener that stops when its owner does.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A router being served on a loopback port.
#[derive(Debug)]
pub(crate) struct Listener {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    server: Option<JoinHandle<()>>,
}

/// A bound port that serves nothing yet, so that its address can be known beforehand.
#[derive(Debug)]
pub(crate) struct Bound {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
}

impl Bound {
    /// Binds a loopback port; 0 takes a free one.
    pub(crate) async fn new(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Starts to serve.
    pub(crate) fn serve(self, router: Router) -> Listener {
        let stop = watch::Sender::new(false);
        let mut stopped = stop.subscribe();
        let stopping = async move {
            // An error means that the owner is gone, which is a reason to stop as well.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let server = tokio::spawn(async move {
            let served = axum::serve(self.listener, router).with_graceful_shutdown(stopping);
            // Serving ends only by the signal: accept errors are retried by axum.
            let _ = served.await;
        });
        Listener {
            address: self.address,
            stop,
            server: Some(server),
        }
    }
}

impl Listener {
    /// The listener's address as the beginning of a URL, without a slash at the end.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops to accept, lets open requests finish and returns when the port is free.
    pub(crate) async fn shutdown(mut self) {
        self.stop.send_replace(true);
        if let Some(server) = self.server.take() {
            let _ = server.await;
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}
