//! A raw client of the Redis protocol: sends any bytes, reads any reply of RESP2 and RESP3.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::Path;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufStream};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::DEADLINE;

/// A reply, as it came over the wire.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `+text`
    Simple(String),
    /// `-text`, and RESP3's `!`.
    Error(String),
    /// `:n`
    Int(i64),
    /// `$n`; RESP3's `=` too, with its `txt:` in front.
    Bulk(Vec<u8>),
    /// `$-1`, `*-1` or `_`.
    Nil,
    /// `#t`
    Bool(bool),
    /// `,1.5`
    Double(f64),
    /// `(n`
    BigNumber(String),
    /// `*n`
    Array(Vec<Value>),
    /// `%n`
    Map(Vec<(Value, Value)>),
    /// `~n`
    Set(Vec<Value>),
    /// `>n`
    Push(Vec<Value>),
}

impl Value {
    /// A bulk string of this text.
    pub fn bulk(text: impl AsRef<[u8]>) -> Self {
        Self::Bulk(text.as_ref().to_vec())
    }

    /// The text of a simple or bulk string.
    ///
    /// # Panics
    /// If it is anything else.
    pub fn text(&self) -> &str {
        match self {
            Self::Simple(text) => text,
            Self::Bulk(bytes) => std::str::from_utf8(bytes).unwrap(),
            other => panic!("not a text: {other:?}"),
        }
    }

    /// The line of an error.
    ///
    /// # Panics
    /// If it is anything else.
    pub fn error(&self) -> &str {
        match self {
            Self::Error(line) => line,
            other => panic!("not an error: {other:?}"),
        }
    }

    /// What a map, or RESP2's flat array for one, holds under `name`.
    pub fn field(&self, name: &str) -> Option<&Value> {
        let named =
            |key: &Value| matches!(key, Self::Simple(_) | Self::Bulk(_)) && key.text() == name;
        match self {
            Self::Map(pairs) => pairs
                .iter()
                .find(|(key, _)| named(key))
                .map(|(_, value)| value),
            Self::Array(flat) => flat
                .chunks_exact(2)
                .find(|pair| named(&pair[0]))
                .map(|pair| &pair[1]),
            _ => None,
        }
    }
}

trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// One connection. Every wait on it has a deadline: a daemon that hangs fails the test.
pub struct Client {
    wire: BufStream<Box<dyn Wire>>,
}

impl Client {
    /// Over any stream that is connected already.
    pub fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        Self {
            wire: BufStream::new(Box::new(stream)),
        }
    }

    /// Over TCP, without delay.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address)
            .await
            .unwrap_or_else(|error| panic!("{address}: {error}"));
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    /// Over a unix socket.
    pub async fn connect_unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path)
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self::over(stream)
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        within(async {
            self.wire.write_all(bytes).await?;
            self.wire.flush().await
        })
        .await
    }

    /// Reads one reply.
    pub async fn read(&mut self) -> io::Result<Value> {
        within(self.value()).await
    }

    /// Sends one command and reads its reply.
    ///
    /// # Panics
    /// If the connection ends or nothing comes.
    pub async fn command(&mut self, words: &[&str]) -> Value {
        self.pipeline(&[words]).await.remove(0)
    }

    /// Sends commands in one write and reads as many replies.
    ///
    /// # Panics
    /// If the connection ends or a reply does not come.
    pub async fn pipeline(&mut self, commands: &[&[&str]]) -> Vec<Value> {
        let bytes: Vec<u8> = commands.iter().flat_map(|words| frame(words)).collect();
        self.send(&bytes)
            .await
            .unwrap_or_else(|error| panic!("sending {} commands: {error}", commands.len()));
        let mut replies = Vec::with_capacity(commands.len());
        for words in commands {
            replies.push(
                self.read()
                    .await
                    .unwrap_or_else(|error| panic!("{words:?}: {error}")),
            );
        }
        replies
    }

    /// Sends one command and gives its reply as it came over the wire: exactly what came before the answer to an `ECHO`
    /// behind it.
    ///
    /// # Panics
    /// If the connection ends or nothing comes.
    pub async fn raw(&mut self, words: &[&str]) -> String {
        const END: &str = "the end";
        const ECHO: &str = "$7\r\nthe end\r\n";
        let bytes = [frame(words), frame(&["ECHO", END])].concat();
        self.send(&bytes).await.unwrap();
        let mut reply = Vec::new();
        let read = async {
            while !reply.ends_with(ECHO.as_bytes()) {
                if self.wire.read_until(b'\n', &mut reply).await? == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
            }
            Ok(())
        };
        let read = within(read).await;
        let reply = String::from_utf8_lossy(&reply);
        read.unwrap_or_else(|error| panic!("{words:?}: {error} after {reply:?}"));
        reply.strip_suffix(ECHO).unwrap().to_owned()
    }

    /// Reads to the end of the connection: all that still comes, once the other side has closed it.
    pub async fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        match within(self.wire.read_to_end(&mut rest)).await {
            // Closed with bytes of ours unread: closed all the same.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(rest),
            other => other.map(|_| rest),
        }
    }

    async fn value(&mut self) -> io::Result<Value> {
        let line = self.line().await?;
        let (kind, rest) = line.split_at_checked(1).ok_or_else(|| broken(&line))?;
        Ok(match kind {
            "+" => Value::Simple(rest.into()),
            "-" => Value::Error(rest.into()),
            ":" => Value::Int(rest.parse().map_err(|_| broken(&line))?),
            "_" => Value::Nil,
            "#" => Value::Bool(rest == "t"),
            "," => Value::Double(rest.parse().map_err(|_| broken(&line))?),
            "(" => Value::BigNumber(rest.into()),
            "$" | "=" | "!" | "*" if rest == "-1" => Value::Nil,
            "$" | "=" => Value::Bulk(self.bytes(count(&line)?).await?),
            "!" => Value::Error(String::from_utf8_lossy(&self.bytes(count(&line)?).await?).into()),
            "*" => Value::Array(self.values(count(&line)?).await?),
            "~" => Value::Set(self.values(count(&line)?).await?),
            ">" => Value::Push(self.values(count(&line)?).await?),
            "%" => {
                let flat = self.values(2 * count(&line)?).await?;
                Value::Map(
                    flat.chunks_exact(2)
                        .map(|pair| (pair[0].clone(), pair[1].clone()))
                        .collect(),
                )
            }
            _ => return Err(broken(&line)),
        })
    }

    async fn values(&mut self, count: usize) -> io::Result<Vec<Value>> {
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(Box::pin(self.value()).await?);
        }
        Ok(values)
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.wire.read_until(b'\n', &mut line).await?;
        let text = String::from_utf8_lossy(&line);
        match text.strip_suffix("\r\n") {
            Some(text) => Ok(text.to_owned()),
            None if line.is_empty() => Err(ErrorKind::UnexpectedEof.into()),
            None => Err(broken(&text)),
        }
    }

    async fn bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count + 2];
        self.wire.read_exact(&mut bytes).await?;
        match bytes.split_off(count).as_slice() {
            b"\r\n" => Ok(bytes),
            end => Err(broken(&format!("bulk string ends with {end:?}"))),
        }
    }
}

/// A command as clients send it: an array of bulk strings.
pub fn frame(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
    }
    bytes
}

fn count(line: &str) -> io::Result<usize> {
    line[1..].parse().map_err(|_| broken(line))
}

fn broken(line: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("not a reply: {line:?}"))
}

async fn within<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(DEADLINE, work)
        .await
        .unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}
