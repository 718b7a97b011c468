//! The doors' addresses, and the HTTP door, if it is declared.

use super::error::StartError;
use super::info::Seen;
use super::warden::Warden;
use super::wiring::Running;
use crate::config::Config;
use crate::http::{self, Asked, Door, Listening, Told};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The real addresses of the TCP doors.
#[derive(Clone, Debug, Default)]
pub(super) struct Addresses {
    pub(super) resp: Vec<SocketAddr>,
    pub(super) http: Option<SocketAddr>,
}

impl Warden {
    /// The real address of the first TCP door.
    pub fn resp_addr(&self) -> Option<SocketAddr> {
        self.0.addresses.resp.first().copied()
    }

    /// The real addresses of all TCP doors, in the order of `[resp] listen`.
    pub fn resp_addrs(&self) -> &[SocketAddr] {
        &self.0.addresses.resp
    }

    /// The real address of the door of `[http]`, if it is declared, and on TCP.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.0.addresses.http
    }
}

impl Running {
    pub(super) fn open_web(
        &mut self,
        config: &Config,
        listening: Option<Listening>,
        seen: &Arc<Seen>,
    ) -> Result<(), StartError> {
        let Some((http, listening)) = config.http.as_ref().zip(listening) else {
            return Ok(());
        };
        let asked = Asked {
            caches: Arc::clone(&self.caches),
            invalidation: self.invalidation.clone(),
            audit: self.audit.clone(),
            locks: self.locks.clone(),
            rate_limit: self.reloading.rate_limits().actor,
            warmup: self.warmup.clone(),
        };
        let [page, lines, unready] = [(); 3].map(|()| Arc::clone(seen));
        let told = Told {
            metrics: Box::new(move || page.page()),
            lines: Box::new(move || lines.lines()),
            unready: Box::new(move || unready.unready()),
        };
        self.addresses.http = listening.tcp_address();
        let door = Door::new(config, http, asked, told);
        let server = http::Server::start(listening, door).map_err(StartError::Thread)?;
        self.web = Some(server);
        Ok(())
    }

    /// Both at once. What had to be cut.
    pub(super) async fn close_doors(&mut self, within: Duration) -> Vec<String> {
        let (server, web) = (self.server.take(), self.web.take());
        let resp = async {
            match server {
                Some(server) => server.stop(within).await,
                None => 0,
            }
        };
        let web = async {
            match web {
                Some(web) => web.stop(within).await,
                None => true,
            }
        };
        let (cut, is_answered) = tokio::join!(resp, web);
        let cut = (cut > 0).then(|| format!("{cut} client connections"));
        let late = (!is_answered).then(|| "requests over http".to_owned());
        cut.into_iter().chain(late).collect()
    }
}
