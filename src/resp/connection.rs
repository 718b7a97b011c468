//! One client's connection: reads, decodes, lets the commands run in order, writes.

use super::batch::Asked;
use super::codec::{Decoder, Limits, Protocol, ProtocolError, Request, reply};
use super::commands::{self, Flow, Session, Verb, locks};
use super::door::Door;
use super::socket::{Socket, give_buffer};
use super::waiting::{Kind, Waiting};
use crate::lock::{Acquire, Leave, Lost};
use std::io;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::Instant;

/// Empty requests in a row after which the client is not worth listening to.
const MAX_EMPTY: usize = 1000;
/// Replies are sent in pieces of about this size, however many a pipeline has.
const SEND_AT: usize = 64 * 1024;

/// Who has sent so many bytes at once probably has more to say: a connection that never has to wait would otherwise keep
/// its core from everybody else, actors included.
const LONG_READ: usize = 4 * 1024;

/// What a client that waits for a lock may send meanwhile, before it is not listened to any more.
const READ_AHEAD: usize = 64 * 1024;

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
    /// Received and not answered; while requests are answered: what comes behind them.
    input: Vec<u8>,
    /// How much of it came while the client waited.
    ahead: usize,
    out: Vec<u8>,
    empty_in_a_row: usize,
    /// Since when the client has to authenticate: its beginning, or its `RESET`.
    unauthenticated_since: Instant,
    /// When the half-received request began.
    midway_since: Option<Instant>,
    /// Whether the client has said anything yet.
    heard: bool,
    stop: watch::Receiver<Stop>,
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

/// What may happen to a connection that waits.
enum Event {
    /// So many bytes came; none: the client has left.
    Read(usize),
    /// A lock of its session is its own no more.
    Lost(Lost),
    /// The daemon stops.
    Draining,
    /// The client has kept us waiting for too long.
    Overdue(&'static str),
}

impl From<io::Error> for End {
    fn from(_gone: io::Error) -> Self {
        // Clients vanish; that is not worth a line.
        End::Over
    }
}

impl Connection {
    pub(super) fn new(
        door: Arc<Door>,
        core: usize,
        socket: Socket,
        stop: watch::Receiver<Stop>,
    ) -> Self {
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
            ahead: 0,
            out: Vec::new(),
            empty_in_a_row: 0,
            unauthenticated_since: Instant::now(),
            midway_since: None,
            heard: false,
            stop,
            last_call: false,
        }
    }

    /// Serves until the client leaves or the daemon stops.
    pub(super) async fn run(mut self) {
        let mut now = self.stop.clone();
        let end = tokio::select! {
            biased;
            _ = now.wait_for(|stop| *stop == Stop::Now) => End::Over,
            end = self.serve() => end,
        };
        self.session.locks.end(&self.door);
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

    async fn serve(&mut self) -> End {
        loop {
            let read = match std::mem::take(&mut self.ahead) {
                0 => self.receive().await,
                ahead => Ok(ahead),
            };
            let read = match read {
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
    async fn receive(&mut self) -> Result<usize, End> {
        let draining = *self.stop.borrow() >= Stop::Draining;
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
        loop {
            match self.happens(true, deadline).await? {
                Event::Read(read) => {
                    self.heard = true;
                    return Ok(read);
                }
                Event::Lost(lost) => self.push(&lost).await?,
                Event::Draining if self.heard => return Ok(0),
                Event::Draining => return self.first_word().await,
                Event::Overdue(why) => return Err(End::Cut(why)),
            }
        }
    }

    /// The daemon stops, and the client has only just come: what it came for is still heard.
    async fn first_word(&mut self) -> Result<usize, End> {
        let (patience, read) = (self.door.patience, self.socket.read(&mut self.input));
        let read = tokio::time::timeout(patience.first_word, read).await;
        self.last_call = true;
        Ok(read.unwrap_or(Ok(0))?)
    }

    /// The next thing that happens to a connection that waits.
    async fn happens(
        &mut self,
        listens: bool,
        deadline: Option<(Instant, &'static str)>,
    ) -> io::Result<Event> {
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
            read = self.socket.read(&mut self.input), if listens => read.map(Event::Read),
            lost = self.session.locks.lost() => Ok(Event::Lost(lost)),
            _ = self.stop.wait_for(|stop| *stop >= Stop::Draining) => Ok(Event::Draining),
            why = overdue => Ok(Event::Overdue(why)),
        }
    }

    /// Tells the client of a lock that it has lost; one of RESP2 has to ask.
    async fn push(&mut self, lost: &Lost) -> io::Result<()> {
        if self.session.protocol == Protocol::Resp3 {
            locks::push_lost(lost, &mut self.out);
            self.socket.write_all(&mut self.out).await?;
            give_buffer(std::mem::take(&mut self.out));
        }
        Ok(())
    }

    /// Runs every complete request of the input.
    async fn answer(&mut self) -> Result<Flow, End> {
        let input = std::mem::take(&mut self.input);
        let mut request = Request::new();
        let mut waiting = Waiting::default();
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
            match self.run_one(&request, rest, &mut waiting).await? {
                Flow::Continue => {}
                Flow::Close => {
                    end = Ok(Flow::Close);
                    break;
                }
            }
        }
        self.flush(&mut waiting).await?;
        self.socket.write_all(&mut self.out).await?;
        self.keep_rest(input, at);
        end
    }

    /// Adds a read or a check to those that wait; anything else waits for them and runs by itself.
    async fn run_one<'a>(
        &mut self,
        request: &Request,
        input: &'a [u8],
        waiting: &mut Waiting<'a>,
    ) -> Result<Flow, End> {
        let verb = match commands::find(request, input, &self.session) {
            Ok(verb) => verb,
            Err(refusal) => {
                self.flush(waiting).await?;
                refusal.write(&mut self.out);
                return Ok(Flow::Continue);
            }
        };
        let kind = waiting.kind_of(&self.door, verb, request.args(input).skip(1));
        if waiting.is_another(kind) {
            self.flush(waiting).await?;
        }
        match (kind, request.args_in(input)) {
            (Kind::Alone, _) => return self.run_alone(verb, request, input).await,
            (Kind::Plain(verb), _) => waiting.plain.add(verb, request.args(input).skip(1)),
            (Kind::Check, Some(args)) => waiting.checks.add(&self.door, verb, args.skip(1)),
            (Kind::Read, Some(args)) => {
                let mut asked = Asked::new(verb, args.skip(1));
                waiting.reads.add(&mut asked);
                while !asked.is_over() {
                    self.flush(waiting).await?;
                    waiting.reads.add(&mut asked);
                }
            }
            (Kind::Read | Kind::Check, None) => {
                // Its words do not outlive it.
                self.flush(waiting).await?;
                self.run_inline(kind, verb, request.args(input).skip(1))
                    .await?;
            }
        }
        if waiting.is_full() {
            self.flush(waiting).await?;
        }
        Ok(Flow::Continue)
    }

    /// Runs a read or a check whose words were typed.
    async fn run_inline(
        &mut self,
        kind: Kind,
        verb: Verb,
        words: impl ExactSizeIterator<Item = &[u8]>,
    ) -> Result<(), End> {
        let mut alone = Waiting::default();
        if kind == Kind::Check {
            alone.checks.add(&self.door, verb, words);
            return self.flush(&mut alone).await;
        }
        let mut asked = Asked::new(verb, words);
        while !asked.is_over() {
            alone.reads.add(&mut asked);
            self.flush(&mut alone).await?;
        }
        Ok(())
    }

    /// Runs a command that is not batched.
    async fn run_alone(
        &mut self,
        verb: Verb,
        request: &Request,
        input: &[u8],
    ) -> Result<Flow, End> {
        if verb == Verb::LockAcquire {
            let args: Vec<&[u8]> = request.args(input).skip(1).collect();
            let session = &mut self.session;
            return match locks::acquire(&self.door, &args, session, &mut self.out) {
                Some(acquire) => Box::pin(self.acquire(acquire)).await,
                None => Ok(Flow::Continue),
            };
        }
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
        Ok(flow)
    }

    /// Takes a lock. A client that waits for one is listened to meanwhile, so that its place goes to the next when it leaves.
    async fn acquire(&mut self, acquire: Acquire) -> Result<Flow, End> {
        let door = Arc::clone(&self.door);
        let (attempt, waits) = (acquire.attempt, !acquire.wait.is_zero());
        if waits {
            // What came before should not wait, too.
            self.socket.write_all(&mut self.out).await?;
        }
        let answer = tokio::select! {
            biased;
            answer = door.locks.acquire.ask(acquire) => Some(answer),
            over = self.until_over(), if waits => {
                // Nobody else is there to be told; and the one to be told that it is too late is us.
                let _restarted = door.locks.leave.tell(Leave { attempt });
                match over {
                    Some(end) => return Err(end),
                    None => None,
                }
            }
        };
        match answer {
            Some(answer) => locks::write_acquired(answer, self.session.protocol, &mut self.out),
            None => reply::error(&mut self.out, "UNAVAILABLE", "the daemon stops; ask again"),
        }
        Ok(Flow::Continue)
    }

    /// Listens to a client that waits: until it leaves, or the daemon stops (`None`).
    async fn until_over(&mut self) -> Option<End> {
        loop {
            let listens = self.input.len() < READ_AHEAD;
            let pushed = match self.happens(listens, None).await {
                Ok(Event::Read(0)) => return Some(End::Over),
                Ok(Event::Read(read)) => {
                    self.ahead += read;
                    Ok(())
                }
                Ok(Event::Lost(lost)) => self.push(&lost).await,
                Ok(Event::Draining | Event::Overdue(_)) => return None,
                Err(gone) => Err(gone),
            };
            if let Err(gone) = pushed {
                return Some(gone.into());
            }
        }
    }

    /// Asks for what waits, and sends when there is enough to send.
    async fn flush(&mut self, waiting: &mut Waiting<'_>) -> Result<(), End> {
        if !waiting.reads.is_empty() {
            let protocol = self.session.protocol;
            let out = (&mut self.out, SEND_AT);
            let mut replies = waiting
                .reads
                .ask(&self.door, self.core, protocol, out)
                .await;
            // Large values go out as they are written, not all of a batch at once.
            while replies.write(protocol, &mut self.out, SEND_AT) {
                self.socket.write_all(&mut self.out).await?;
            }
        }
        if !waiting.plain.is_empty() {
            // Boxed: a read should not carry room for it.
            let mut replies = Box::pin(waiting.plain.ask(&self.door, self.core)).await;
            while replies.write(self.session.protocol, &mut self.out, SEND_AT) {
                self.socket.write_all(&mut self.out).await?;
            }
        }
        if !waiting.checks.is_empty() {
            // Boxed: a read should not carry room for it.
            Box::pin(waiting.checks.ask(&self.door, &mut self.out)).await;
        }
        if self.out.len() >= SEND_AT {
            self.socket.write_all(&mut self.out).await?;
        }
        Ok(())
    }

    /// Keeps what was received of the next request; a connection that waits holds no buffer.
    fn keep_rest(&mut self, mut input: Vec<u8>, consumed: usize) {
        input.drain(..consumed);
        input.append(&mut self.input);
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
