//! One client's connection: reads, decodes, lets the commands run in order, writes.

use super::batch::Batch;
use super::codec::{Decoder, Limits, ProtocolError, Request, reply};
use super::commands::{self, Flow, Session, Verb};
use super::door::Door;
use super::socket::{Socket, give_buffer};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Empty requests in a row after which the client is not worth listening to.
const MAX_EMPTY: usize = 1000;
/// Replies are sent in pieces of about this size, however many a pipeline has.
const SEND_AT: usize = 64 * 1024;

/// Who has sent so many bytes at once probably has more to say: a connection that never has to wait would otherwise keep
/// its core from everybody else, actors included.
const LONG_READ: usize = 4 * 1024;

/// How long a client may keep us waiting.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Who must authenticate has this long to do so.
    pub(super) authenticate: Duration,
    /// A request once begun must be complete within this time.
    pub(super) request: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            authenticate: Duration::from_secs(5),
            request: Duration::from_secs(10),
        }
    }
}

/// How far the daemon's stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(super) enum Stop {
    /// Not at all.
    Running,
    /// Answer what was read, then close.
    Draining,
    /// Close.
    Now,
}

pub(super) struct Connection {
    door: Arc<Door>,
    core: usize,
    socket: Socket,
    session: Session,
    decoder: Decoder,
    input: Vec<u8>,
    out: Vec<u8>,
    empty_in_a_row: usize,
    /// Since when the client has to authenticate: its beginning, or its `RESET`.
    unauthenticated_since: Instant,
    /// When the half-received request began.
    midway_since: Option<Instant>,
    /// The daemon stops, and what had arrived by then was read.
    last_call: bool,
}

/// Why a connection ends.
enum End {
    /// The client closed it, vanished, or asked for it; or the daemon stops.
    Over,
    /// It sent what is no request.
    Broken(ProtocolError),
    /// It was too slow, or only sends nothing.
    Cut(&'static str),
}

impl From<io::Error> for End {
    fn from(_gone: io::Error) -> Self {
        // Clients vanish; that is not worth a line.
        End::Over
    }
}

impl Connection {
    pub(super) fn new(door: Arc<Door>, core: usize, socket: Socket) -> Self {
        let session = Session::new(door.next_client(), socket.peer(), door.password.is_none());
        let limits = if session.authenticated {
            door.limits
        } else {
            Limits::unauthenticated()
        };
        Self {
            door,
            core,
            socket,
            session,
            decoder: Decoder::new(limits),
            input: Vec::new(),
            out: Vec::new(),
            empty_in_a_row: 0,
            unauthenticated_since: Instant::now(),
            midway_since: None,
            last_call: false,
        }
    }

    /// Serves until the client leaves or the daemon stops.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<Stop>) {
        let mut now = stop.clone();
        let end = tokio::select! {
            biased;
            _ = now.wait_for(|stop| *stop == Stop::Now) => End::Over,
            end = self.serve(&mut stop) => end,
        };
        match end {
            End::Over => {}
            End::Cut(why) => {
                tracing::debug!(client = self.session.id, why, "client cut");
                self.door.metrics.refused_connection(why);
            }
            End::Broken(error) => {
                self.door.metrics.protocol_errors.inc();
                tracing::info!(client = self.session.id, peer = ?self.session.peer, %error, "broken frame");
                if !error.closes_silently() {
                    reply::error(
                        &mut self.out,
                        "ERR",
                        format_args!("Protocol error: {error}"),
                    );
                    let _gone_either_way = self.socket.write_all(&mut self.out).await;
                }
            }
        }
        give_buffer(self.input);
        give_buffer(self.out);
        // Boxed: an idle connection should not carry room for its end.
        Box::pin(self.socket.close()).await;
    }

    async fn serve(&mut self, stop: &mut watch::Receiver<Stop>) -> End {
        loop {
            let read = match self.receive(stop).await {
                Ok(0) => return End::Over,
                Ok(read) => read,
                Err(end) => return end,
            };
            // Boxed: an idle connection should not carry room for the answering.
            match Box::pin(self.answer()).await {
                Ok(Flow::Continue) => {}
                Ok(Flow::Close) => return End::Over,
                Err(end) => return end,
            }
            if read >= LONG_READ {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Waits for input, and tells how many bytes came; 0 when no more will.
    async fn receive(&mut self, stop: &mut watch::Receiver<Stop>) -> Result<usize, End> {
        let draining = *stop.borrow() >= Stop::Draining;
        if draining && std::mem::replace(&mut self.last_call, true) {
            // One more read was granted; who keeps on sending does not hold up the stop.
            return Ok(0);
        }
        let patience = self.door.patience;
        let deadline = match self.midway_since {
            _ if !self.session.authenticated => Some((
                self.unauthenticated_since + patience.authenticate,
                "unauthenticated",
            )),
            Some(since) => Some((since + patience.request, "slow")),
            None => None,
        };
        let overdue = async {
            match deadline {
                Some((at, why)) => {
                    tokio::time::sleep_until(at).await;
                    why
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            read = self.socket.read(&mut self.input) => Ok(read?),
            _ = stop.wait_for(|stop| *stop >= Stop::Draining) => Ok(0),
            why = overdue => Err(End::Cut(why)),
        }
    }

    /// Runs every complete request of the input.
    async fn answer(&mut self) -> Result<Flow, End> {
        let input = std::mem::take(&mut self.input);
        let mut request = Request::new();
        let mut batch = Batch::default();
        let mut at = 0;
        let mut end = Ok(Flow::Continue);
        loop {
            let rest = &input[at..];
            match self.decoder.decode(rest, &mut request) {
                Ok(None) => break,
                Err(error) => {
                    end = Err(End::Broken(error));
                    break;
                }
                Ok(Some(length)) => at += length,
            }
            if request.is_empty() {
                self.empty_in_a_row += 1;
                if self.empty_in_a_row > MAX_EMPTY {
                    end = Err(End::Cut("empty requests"));
                    break;
                }
                continue;
            }
            self.empty_in_a_row = 0;
            match self.run_one(&request, rest, &mut batch).await? {
                Flow::Continue => {}
                Flow::Close => {
                    end = Ok(Flow::Close);
                    break;
                }
            }
        }
        self.flush(&mut batch).await?;
        self.socket.write_all(&mut self.out).await?;
        self.keep_rest(input, at);
        end
    }

    /// Adds a read to the batch; anything else waits for the batch and runs by itself.
    async fn run_one<'a>(
        &mut self,
        request: &Request,
        input: &'a [u8],
        batch: &mut Batch<'a>,
    ) -> Result<Flow, End> {
        let verb = match commands::find(request, input, &self.session) {
            Ok(verb) => verb,
            Err(refusal) => {
                self.flush(batch).await?;
                refusal.write(&mut self.out);
                return Ok(Flow::Continue);
            }
        };
        match verb {
            Verb::Get | Verb::Mget | Verb::CacheGet => match request.args_in(input) {
                Some(args) => batch.add(verb, args.skip(1)),
                None => {
                    // Its words do not outlive it.
                    self.flush(batch).await?;
                    let mut alone = Batch::default();
                    alone.add(verb, request.args(input).skip(1));
                    self.flush(&mut alone).await?;
                }
            },
            verb => {
                self.flush(batch).await?;
                let was_authenticated = self.session.authenticated;
                // Boxed: these are rare, and a read should not carry room for them.
                let command = commands::run(
                    verb,
                    request,
                    input,
                    &self.door,
                    self.core,
                    &mut self.session,
                    &mut self.out,
                );
                let flow = Box::pin(command).await;
                if self.session.authenticated != was_authenticated {
                    self.unauthenticated_since = Instant::now();
                    self.decoder.set_limits(if self.session.authenticated {
                        self.door.limits
                    } else {
                        Limits::unauthenticated()
                    });
                }
                return Ok(flow);
            }
        }
        if batch.is_full() {
            self.flush(batch).await?;
        }
        Ok(Flow::Continue)
    }

    /// Runs the batch, and sends when there is enough to send.
    async fn flush(&mut self, batch: &mut Batch<'_>) -> Result<(), End> {
        if !batch.is_empty() {
            let protocol = self.session.protocol;
            let out = (&mut self.out, SEND_AT);
            let mut replies = batch.ask(&self.door, self.core, protocol, out).await;
            // Large values go out as they are written, not all of a batch at once.
            while replies.write(protocol, &mut self.out, SEND_AT) {
                self.socket.write_all(&mut self.out).await?;
            }
        }
        if self.out.len() >= SEND_AT {
            self.socket.write_all(&mut self.out).await?;
        }
        Ok(())
    }

    /// Keeps what was received of the next request; a connection that waits holds no buffer.
    fn keep_rest(&mut self, mut input: Vec<u8>, consumed: usize) {
        input.drain(..consumed);
        if input.is_empty() {
            give_buffer(input);
            self.midway_since = None;
        } else {
            if consumed > 0 || self.midway_since.is_none() {
                self.midway_since = Some(Instant::now());
            }
            let wanted = self.decoder.wanted().saturating_sub(input.len());
            // A hint, not a promise: an announced length alone reserves little.
            input.reserve(wanted.min(SEND_AT));
            self.input = input;
        }
        if self.out.capacity() > 0 {
            give_buffer(std::mem::take(&mut self.out));
        }
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
