//! Lua scripts, sent by hash.

use super::{Reply, StoreError};
use redis::{Cmd, Value};

/// A script: its text lives beside the domain that needs it, as `scripts/<verb_noun>.lua`.
#[derive(Debug)]
pub struct Script {
    name: &'static str,
    source: Box<str>,
    inner: redis::Script,
}

impl Script {
    /// Names and hashes a script's text.
    pub fn new(name: &'static str, source: &str) -> Self {
        Self {
            name,
            source: source.into(),
            inner: redis::Script::new(source),
        }
    }

    /// The file's name, for errors.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The text.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    fn call<K, A>(&self, keys: &[K], args: &[A]) -> Cmd
    where
        K: AsRef<[u8]>,
        A: AsRef<[u8]>,
    {
        let mut call = redis::cmd("EVALSHA");
        call.arg(self.inner.get_hash()).arg(keys.len());
        for key in keys {
            call.arg(key.as_ref());
        }
        for arg in args {
            call.arg(arg.as_ref());
        }
        call
    }

    /// Runs it over a connection that sends commands by `command` and the script's text by `load`: by its hash, and if Redis
    /// has forgotten it, once more after loading it.
    pub(super) async fn run<K, A>(
        &self,
        keys: &[K],
        args: &[A],
        command: impl AsyncFn(&Cmd) -> Result<Value, StoreError>,
        load: impl AsyncFnOnce() -> Result<(), StoreError>,
    ) -> Result<Reply, StoreError>
    where
        K: AsRef<[u8]>,
        A: AsRef<[u8]>,
    {
        let call = self.call(keys, args);
        let reply = match command(&call).await {
            Err(error) if error.is_unknown_script() => {
                load().await?;
                command(&call).await?
            }
            other => other?,
        };
        Reply::of(reply).ok_or(StoreError::Unexpected { command: self.name })
    }

    pub(super) async fn load(
        &self,
        connection: &mut redis::aio::MultiplexedConnection,
    ) -> redis::RedisResult<()> {
        self.inner.load_async(connection).await.map(drop)
    }
}
