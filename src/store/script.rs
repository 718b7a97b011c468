//! Lua scripts, sent by hash.

/// A script: its text lives beside the domain that needs it, as `scripts/<verb_noun>.lua`.
#[derive(Debug)]
pub struct Script {
    name: &'static str,
    inner: redis::Script,
}

impl Script {
    /// Names and hashes a script's text.
    pub fn new(name: &'static str, source: &str) -> Self {
        Self {
            name,
            inner: redis::Script::new(source),
        }
    }

    /// The file's name, for errors.
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn call<K, A>(&self, keys: &[K], args: &[A]) -> redis::Cmd
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

    pub(super) async fn load(
        &self,
        connection: &mut redis::aio::MultiplexedConnection,
    ) -> redis::RedisResult<()> {
        self.inner.load_async(connection).await.map(drop)
    }
}
