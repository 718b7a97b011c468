//! Broken, hostile and unfinished input at the front door, over a real socket: each gets its own
//! answer or none, ends no connection but its own, and leaves nothing behind.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::support::daemon::{InProcess, config_without_postgres};
use super::support::servers::redis;
use cachewarden::cli::demo::servers::Redis;

/// Long enough for a laden machine, and beyond what the daemon itself waits for a slow client; it
/// only ends tests that have failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon that runs as long as this lives.
struct Door {
    address: SocketAddr,
    _daemon: InProcess,
    _redis: Redis,
}

/// Starts a daemon; `setting` is a line of its `[resp]` section.
async fn front_door(setting: &str) -> Door {
    let redis = redis();
    let setting = match setting {
        "" => String::new(),
        setting => format!("resp.{setting}"),
    };
    let config = config_without_postgres(&redis.redis_url(), &setting);
    let daemon = InProcess::start(&config).await;
    Door {
        address: daemon.address(),
        _daemon: daemon,
        _redis: redis,
    }
}

struct Client(TcpStream);

impl Client {
    async fn connect(door: &Door) -> Client {
        Client(TcpStream::connect(door.address).await.expect("connect"))
    }

    /// Sends what the daemon will take; it may close before it has everything.
    async fn send(&mut self, bytes: &[u8]) {
        let _ = timeout(PATIENCE, self.0.write_all(bytes))
            .await
            .expect("stuck");
    }

    /// The next line, without its end; `None` if the connection was closed.
    async fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            match timeout(PATIENCE, self.0.read_u8())
                .await
                .expect("no answer")
            {
                Ok(byte) => line.push(byte),
                Err(error) if is_end(error.kind()) && line.is_empty() => return None,
                Err(error) => panic!("{error} after {}", line.escape_ascii()),
            }
        }
        line.truncate(line.len() - 2);
        Some(String::from_utf8(line).expect("replies to bad input are text"))
    }

    async fn ask(&mut self, request: &str) -> String {
        self.send(request.as_bytes()).await;
        self.line()
            .await
            .unwrap_or_else(|| panic!("closed by {request:?}"))
    }

    /// Everything up to the end, which the daemon makes.
    async fn until_closed(&mut self) -> Vec<u8> {
        let mut answer = Vec::new();
        match timeout(PATIENCE, self.0.read_to_end(&mut answer))
            .await
            .expect("still open")
        {
            Err(error) if !is_end(error.kind()) => panic!("{error}"),
            _ => answer,
        }
    }

    async fn assert_alive(&mut self, after: &str) {
        assert_eq!(self.ask("PING\r\n").await, "+PONG", "after {after}");
    }
}

/// A reset is an end too: it is what closing on unread bytes looks like from here.
fn is_end(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    )
}

fn command(arguments: &[&str]) -> String {
    let bulks = arguments
        .iter()
        .map(|argument| format!("${}\r\n{argument}\r\n", argument.len()));
    format!("*{}\r\n{}", arguments.len(), bulks.collect::<String>())
}

#[tokio::test]
async fn a_broken_frame_is_named_and_ends_its_connection_only() {
    let cases: &[(&[u8], &str)] = &[
        (b"*1\r\n$-5\r\n", "invalid bulk length -5"),
        (b"*99999999999\r\n", "invalid multibulk length (max 65536)"),
        (b"*1048576\r\n", "invalid multibulk length (max 65536)"),
        (
            b"*1\r\n$9999999999\r\n",
            "invalid bulk length (max 1048576)",
        ),
        (b"*1\r\n:1\r\n", "expected '$', got ':'"),
        (b"*1\r\n$4\r\nPINGxx", "bulk not terminated by CRLF"),
        (
            b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$abc\r\n",
            "invalid bulk length",
        ),
        (b"*1\r\n$+4\r\n", "invalid bulk length"),
        (b"*1\r\n$ 4\r\n", "invalid bulk length"),
        (b"*1\r\n$04\r\n", "invalid bulk length"),
        (b"*+1\r\n", "invalid multibulk length"),
        (
            b"*1\r\n$9223372036854775808\r\n",
            "invalid bulk length (max 1048576)",
        ),
        (
            b"*1\r\n$18446744073709551616\r\n",
            "invalid bulk length (max 1048576)",
        ),
        (
            b"*18446744073709551617\r\n",
            "invalid multibulk length (max 65536)",
        ),
        (b"*1\n$4\nPING\n", "expected CRLF"),
        (&[b'a'; 4097], "too big inline request (max 4096)"),
        (b"GET \"courses:42\r\n", "unbalanced quotes in request"),
        (b"*1\r\n*1\r\n*1\r\n", "nested arrays not allowed"),
        (b"%1\r\n", "expected '*', got '%'"),
        (b"~1\r\n", "expected '*', got '~'"),
        (b">1\r\n", "expected '*', got '>'"),
        (b"_\r\n", "expected '*', got '_'"),
        (b"(1\r\n", "expected '*', got '('"),
        (b"*1\r\n%1\r\n", "expected '$', got '%'"),
        (b"\r\n\r\n\0\r\nQUIT\n", "expected '*', got '\\x00'"),
    ];
    let door = front_door("").await;
    let mut neighbour = Client::connect(&door).await;
    for (input, message) in cases {
        let mut client = Client::connect(&door).await;
        client.send(input).await;
        let answer = client.until_closed().await;
        let expected = format!("-ERR Protocol error: {message}\r\n");
        assert_eq!(
            String::from_utf8_lossy(&answer),
            expected,
            "{}",
            input.escape_ascii()
        );
        neighbour.assert_alive(message).await;
    }
}

#[tokio::test]
async fn what_came_before_a_broken_frame_is_answered_first() {
    let door = front_door("").await;
    let mut client = Client::connect(&door).await;
    client
        .send(b"PING\r\n*1\r\n$4\r\nPING\r\n*1\r\n:1\r\nPING\r\n")
        .await;
    let answer = client.until_closed().await;
    let expected = "+PONG\r\n+PONG\r\n-ERR Protocol error: expected '$', got ':'\r\n";
    assert_eq!(String::from_utf8_lossy(&answer), expected);
}

#[tokio::test]
async fn floods_of_garbage_are_told_why_and_cut_off() {
    let mut random = vec![0; 64 << 10];
    fastrand::Rng::with_seed(7).fill(&mut random);
    let floods = [vec![b'a'; 70_000], b"*1\r\n".repeat(10_000), random];
    let door = front_door("").await;
    let mut neighbour = Client::connect(&door).await;
    for flood in floods {
        let mut client = Client::connect(&door).await;
        client.send(&flood).await;
        let answer = client.until_closed().await;
        assert!(
            answer.starts_with(b"-ERR Protocol error: "),
            "{}",
            answer.escape_ascii()
        );
        neighbour.assert_alive("a flood").await;
        // Closed, not reset, although most of the flood was never read: a reset can overtake the answer.
        let reset = client.0.take_error().expect("a socket");
        assert!(reset.is_none(), "{reset:?}");
    }
}

#[tokio::test]
async fn other_protocols_are_closed_without_an_answer_and_nothing_of_them_runs() {
    let greetings: [&[u8]; 9] = [
        b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\nPING\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nPING\r\n",
        b"HEAD / HTTP/1.0\r\n\r\nPING\r\n",
        b"PUT /x HTTP/1.1\r\n\r\nPING\r\n",
        b"OPTIONS * HTTP/1.1\r\n\r\nPING\r\n",
        b"Host: localhost\r\nPING\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 4711 6380\r\nPING\r\n",
    ];
    let door = front_door("").await;
    let mut neighbour = Client::connect(&door).await;
    for greeting in greetings {
        let mut client = Client::connect(&door).await;
        client.send(greeting).await;
        let answer = client.until_closed().await;
        assert!(
            answer.is_empty(),
            "{}: {}",
            greeting.escape_ascii(),
            answer.escape_ascii()
        );
        neighbour.assert_alive("another protocol").await;
    }
}

#[tokio::test]
async fn empty_requests_get_no_answer_but_do_not_go_on_for_ever() {
    let door = front_door("").await;
    let mut client = Client::connect(&door).await;
    client.send(b"*-5\r\n*-1\r\n*0\r\n\r\n\n").await;
    client.assert_alive("a few").await;
    client.send(&b"*0\r\n".repeat(1000)).await;
    client.assert_alive("a thousand").await;
    client.send(&b"*0\r\n".repeat(1001)).await;
    client.until_closed().await;
}

#[tokio::test]
async fn a_frame_in_single_bytes_is_answered_like_any_other() {
    let door = front_door("").await;
    let mut client = Client::connect(&door).await;
    client.0.set_nodelay(true).expect("a TCP socket");
    for byte in command(&["PING"]).bytes() {
        client.send(&[byte]).await;
    }
    assert_eq!(client.line().await.as_deref(), Some("+PONG"));
}

#[tokio::test]
async fn who_never_finishes_a_frame_and_who_never_begins_one_are_closed() {
    let open = front_door("").await;
    let guarded = front_door("password = \"correct horse\"").await;
    let (mut half, mut silent) = tokio::join!(Client::connect(&open), Client::connect(&guarded));
    half.send(b"*2\r\n$3\r\nGET\r\n$10\r\ncour").await;
    tokio::join!(half.until_closed(), silent.until_closed());
}

#[tokio::test]
async fn announced_bytes_that_never_come_cost_a_neighbour_nothing() {
    let door = front_door("max_connections = 300").await;
    let mut baits = Vec::new();
    for _ in 0..200 {
        let mut bait = Client::connect(&door).await;
        bait.send(b"*65536\r\n$1000000\r\n").await;
        baits.push(bait);
    }
    Client::connect(&door)
        .await
        .assert_alive("200 announcements of a megabyte")
        .await;
}

#[tokio::test]
async fn a_client_too_many_is_told_so() {
    let door = front_door("max_connections = 2").await;
    let (mut first, mut second) = (Client::connect(&door).await, Client::connect(&door).await);
    first.assert_alive("connecting").await;
    second.assert_alive("connecting").await;
    let answer = Client::connect(&door).await.until_closed().await;
    assert_eq!(
        String::from_utf8_lossy(&answer),
        "-ERR max number of clients reached\r\n"
    );
    first.assert_alive("the third").await;
}

#[tokio::test]
async fn clients_that_leave_in_the_middle_of_a_frame_give_their_place_back() {
    let door = front_door("max_connections = 4").await;
    for i in 0..40 {
        // The place of the one before may be taken for a moment longer.
        let mut client = place_at(&door).await;
        client.send(b"*2\r\n$3\r\nGET\r\n$10\r\ncour").await;
        if i % 2 == 0 {
            client.0.set_zero_linger().expect("a TCP socket"); // leaves with a reset
        }
    }
}

/// A connection that is served, as soon as there is one.
async fn place_at(door: &Door) -> Client {
    let served = async {
        loop {
            let mut client = Client::connect(door).await;
            client.send(b"PING\r\n").await;
            match client.line().await.as_deref() {
                Some("+PONG") => return client,
                answer => assert!(
                    matches!(answer, None | Some("-ERR max number of clients reached")),
                    "{answer:?}"
                ),
            }
        }
    };
    timeout(PATIENCE, served).await.expect("no place came free")
}

#[tokio::test]
async fn a_client_that_does_not_read_its_replies_is_held_back_alone() {
    let door = front_door("").await;
    let mut neighbour = Client::connect(&door).await;
    let (mut replies, mut requests) = Client::connect(&door).await.0.into_split();
    let flood = tokio::spawn(async move {
        let pings = command(&["PING"]).repeat(10_000);
        for _ in 0..100 {
            if requests.write_all(pings.as_bytes()).await.is_err() {
                break; // closed, as it may be
            }
        }
    });
    for _ in 0..100 {
        neighbour.assert_alive("the flood").await;
    }
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, replies.read_to_end(&mut answer));
    let (read, flood) = tokio::join!(read, flood);
    flood.expect("the flood itself does not fail");
    if let Err(error) = read.expect("still open") {
        assert!(is_end(error.kind()), "{error}");
    }
    let in_order = answer
        .chunks(7)
        .all(|reply| b"+PONG\r\n".starts_with(reply));
    assert!(
        in_order && answer.len() <= 7 * 1_000_000,
        "{} bytes",
        answer.len()
    );
}

#[tokio::test]
async fn a_command_that_cannot_run_leaves_its_connection_alive() {
    let cases = [
        (command(&["HELLO", "9"]), "-NOPROTO"),
        (
            command(&["HELLO", "x"]),
            "-ERR Protocol version is not an integer",
        ),
        (command(&["HELLO", "3", "AUTH", "u"]), "-ERR Syntax error"),
        (command(&["NOSUCH"]), "-ERR unknown command 'NOSUCH'"),
        (
            command(&["\u{1b}[2J\r\n"]),
            r"-ERR unknown command '\u{1b}[2J\r\n'",
        ),
        (
            command(&[&"x".repeat(1_000_000)]),
            "-ERR unknown command 'xxx",
        ),
        (
            command(&["GET"]),
            "-ERR wrong number of arguments for 'get'",
        ),
        (
            command(&["GET", "a", "b"]),
            "-ERR wrong number of arguments for 'get'",
        ),
        (
            command(&["FLUSHALL"]),
            "-ERR unknown command 'FLUSHALL': not supported by this daemon",
        ),
        (
            command(&["CONFIG", "GET", "*"]),
            "-ERR unknown command 'CONFIG': not supported by this daemon",
        ),
        (
            command(&["KEYS", "*"]),
            "-ERR unknown command 'KEYS': not supported by this daemon",
        ),
        (
            command(&["EVAL", "return 1", "0"]),
            "-ERR unknown command 'EVAL': not supported by this daemon",
        ),
        (
            command(&["SLAVEOF", "NO", "ONE"]),
            "-ERR unknown command 'SLAVEOF': not supported by this daemon",
        ),
        (
            command(&["DEBUG", "SEGFAULT"]),
            "-ERR unknown command 'DEBUG': not supported by this daemon",
        ),
        (
            command(&["MULTI"]),
            "-ERR unknown command 'MULTI': not supported by this daemon",
        ),
        (
            command(&["WATCH", "courses:1"]),
            "-ERR unknown command 'WATCH': not supported by this daemon",
        ),
        (
            command(&["SUBSCRIBE", "news"]),
            "-ERR unknown command 'SUBSCRIBE': not supported by this daemon",
        ),
    ];
    let door = front_door("").await;
    let mut client = Client::connect(&door).await;
    for (request, expected) in cases {
        let start = &request[..request.len().min(80)];
        let answer = client.ask(&request).await;
        assert!(answer.starts_with(expected), "{start:?}: {answer}");
        assert!(
            answer.len() <= 300 && !answer.contains(char::is_control),
            "{start:?}: {answer}"
        );
        client.assert_alive(start).await;
    }
}

#[tokio::test]
async fn a_typed_request_of_thousands_of_words_is_answered_word_by_word() {
    const KEYS: usize = 2000;
    let door = front_door("").await;
    let mut client = Client::connect(&door).await;
    let answer = client.ask(&format!("MGET{}\r\n", " a".repeat(KEYS))).await;
    assert_eq!(answer, format!("*{KEYS}"));
    for place in 0..KEYS {
        let answer = client.line().await.expect("open");
        assert!(
            answer.starts_with("-ERR no cache is declared"),
            "{place}: {answer}"
        );
    }
    client.assert_alive("so many").await;
}

#[tokio::test]
async fn a_stranger_may_ask_for_little() {
    let door = front_door("password = \"correct horse\"").await;
    let cases = [
        ("*11\r\n", "invalid multibulk length (max 10)"),
        (
            "*2\r\n$4\r\nAUTH\r\n$16385\r\n",
            "invalid bulk length (max 16384)",
        ),
    ];
    for (input, message) in cases {
        let mut client = Client::connect(&door).await;
        client.send(input.as_bytes()).await;
        let expected = format!("-ERR Protocol error: {message}\r\n");
        assert_eq!(
            String::from_utf8_lossy(&client.until_closed().await),
            expected
        );
    }
}

#[tokio::test]
async fn guessing_passwords_never_opens_the_door() {
    let door = front_door("password = \"correct horse\"").await;
    let mut client = Client::connect(&door).await;
    for i in 0..10 {
        client
            .send(command(&["AUTH", &format!("guess {i}")]).as_bytes())
            .await;
        match client.line().await {
            Some(answer) => assert!(answer.starts_with("-WRONGPASS"), "{answer}"),
            None => break, // it need not listen to all ten
        }
    }
    let mut owner = Client::connect(&door).await;
    assert_eq!(owner.ask(&command(&["AUTH", "correct horse"])).await, "+OK");
}
