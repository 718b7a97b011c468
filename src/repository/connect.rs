//! Connections to Postgres: how one is made, set up and told to stop.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use diesel::ConnectionError;
use diesel_async::pooled_connection::deadpool::{BuildError, Pool};
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, CancelToken, Client, NoTls, Notification, Socket};
use tokio_postgres_rustls_improved::MakeRustlsConnect;

use super::dsn::Dsn;
use super::error::{describe, one_line};
use super::tls;

/// How long it may take until a connection is ready, all steps together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long telling the server to stop a statement may take.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the server may leave a transaction of ours idle; we open none.
const IDLE_IN_TRANSACTION_MS: u32 = 10_000;

/// The longest that installing waits for a table: who writes to it waits behind it that long.
const LOCK_TIMEOUT_MS: u32 = 5_000;

/// Makes connections that are all set up alike.
pub(super) struct Connector {
    dsn: Dsn,
    setup: String,
    tls: OnceCell<MakeRustlsConnect>,
}

impl Connector {
    /// For loads: they can only read.
    pub fn reading(dsn: Dsn, statement_timeout: Duration) -> Self {
        // Generic plans: a batch is a correlated look-up that knows no parameter at planning time,
        // so a custom plan is never better, and planning anew each time costs a statement of one
        // key 40 % of its speed. No JIT: compiling takes longer than anything worth caching here.
        let setup = format!(
            "SET default_transaction_read_only = on; \
             SET statement_timeout = {}; \
             SET idle_in_transaction_session_timeout = {IDLE_IN_TRANSACTION_MS}; \
             SET plan_cache_mode = force_generic_plan; \
             SET jit = off; \
             SET TimeZone = 'UTC'",
            statement_timeout.as_millis()
        );
        Self::with_setup(dsn, setup)
    }

    /// For installing what is declared, which may take its time once it has a table to itself.
    pub fn installing(dsn: Dsn) -> Self {
        let setup = format!(
            "SET default_transaction_read_only = off; \
             SET lock_timeout = {LOCK_TIMEOUT_MS}; \
             SET idle_in_transaction_session_timeout = {IDLE_IN_TRANSACTION_MS}; \
             SET client_min_messages = warning"
        );
        Self::with_setup(dsn, setup)
    }

    /// For the queue of invalidations. A transaction that is left idle holds rows back from others.
    pub fn queueing(dsn: Dsn, statement_timeout: Duration, max_idle: Duration) -> Self {
        let setup = format!(
            "SET default_transaction_read_only = off; \
             SET statement_timeout = {}; \
             SET idle_in_transaction_session_timeout = {}; \
             SET jit = off",
            statement_timeout.as_millis(),
            max_idle.as_millis()
        );
        Self::with_setup(dsn, setup)
    }

    /// For saving what clients bring: in the time zone that loads answer in, so that what was read can be saved again.
    pub fn saving(dsn: Dsn, statement_timeout: Duration) -> Self {
        let setup = format!(
            "SET default_transaction_read_only = off; \
             SET statement_timeout = {}; \
             SET idle_in_transaction_session_timeout = {IDLE_IN_TRANSACTION_MS}; \
             SET jit = off; \
             SET TimeZone = 'UTC'",
            statement_timeout.as_millis()
        );
        Self::with_setup(dsn, setup)
    }

    /// For minting fencing tokens: one that was answered must not be minted again after a crash, whatever the role's default
    /// says of commits. A stricter default stays.
    pub fn minting(dsn: Dsn, statement_timeout: Duration) -> Self {
        let setup = format!(
            "SET default_transaction_read_only = off; \
             SET statement_timeout = {}; \
             SELECT set_config('synchronous_commit', 'on', false) \
             WHERE current_setting('synchronous_commit') IN ('off', 'local')",
            statement_timeout.as_millis()
        );
        Self::with_setup(dsn, setup)
    }

    /// For writes from the journal: what was committed is removed there, so the commit must be on disk. A transaction that is
    /// left idle holds back the next leader's.
    pub fn journaling(dsn: Dsn, statement_timeout: Duration, max_idle: Duration) -> Self {
        let minting = Self::minting(dsn, statement_timeout);
        let setup = format!(
            "SET idle_in_transaction_session_timeout = {}; SET TimeZone = 'UTC'; {}",
            max_idle.as_millis(),
            minting.setup
        );
        Self { setup, ..minting }
    }

    fn with_setup(dsn: Dsn, setup: String) -> Self {
        Self {
            dsn,
            setup,
            tls: OnceCell::new(),
        }
    }

    /// A pool of at most `size` connections, made as they are needed.
    pub fn pool(self: &Arc<Self>, size: usize) -> Result<Pool<AsyncPgConnection>, BuildError> {
        let connector = Arc::clone(self);
        let mut config = ManagerConfig::default();
        // No test query at each use: it would double the round trips. A connection known to be
        // closed is found out without one, and a load that meets a dead one tries again.
        config.recycling_method = RecyclingMethod::Fast;
        config.custom_setup = Box::new(move |_| {
            let connector = Arc::clone(&connector);
            async move {
                connector
                    .connect()
                    .await
                    .map_err(ConnectionError::BadConnection)
            }
            .boxed()
        });
        // The manager is given no URL: the connector has it, and the manager's may be printed.
        let manager = AsyncDieselConnectionManager::new_with_config("", config);
        Pool::builder(manager).max_size(size).build()
    }

    /// A connection for loads. The error is one safe line.
    pub async fn connect(&self) -> Result<AsyncPgConnection, String> {
        let connect = async {
            let adopted = if self.dsn.tls {
                let (client, driver) = self.dial(self.tls().await?).await?;
                AsyncPgConnection::try_from_client_and_connection(client, driver).await
            } else {
                let (client, driver) = self.dial(NoTls).await?;
                AsyncPgConnection::try_from_client_and_connection(client, driver).await
            };
            let mut connection = adopted.map_err(|error| one_line(&error.to_string()))?;
            let set_up = connection.batch_execute(&self.setup).await;
            set_up.map_err(|error| one_line(&error.to_string()))?;
            Ok(connection)
        };
        in_time(connect).await
    }

    /// A connection of the driver's own kind, which tells of errors what diesel leaves out.
    pub async fn client(&self) -> Result<Client, String> {
        self.client_hearing(|_notification| {}).await
    }

    /// The same. `hear` is called with whatever is notified on the connection, and dropped when the connection ends.
    pub async fn client_hearing(
        &self,
        hear: impl FnMut(Notification) + Send + 'static,
    ) -> Result<Client, String> {
        let connect = async {
            let client = if self.dsn.tls {
                let (client, driver) = self.dial(self.tls().await?).await?;
                tokio::spawn(drive(driver, hear));
                client
            } else {
                let (client, driver) = self.dial(NoTls).await?;
                tokio::spawn(drive(driver, hear));
                client
            };
            let set_up = client.batch_execute(&self.setup).await;
            set_up.map_err(|error| describe(&error))?;
            Ok(client)
        };
        in_time(connect).await
    }

    /// Tells the server to stop what runs on a connection. Whether it did is not known: a
    /// connection that was cancelled is thrown away, so that a late cancellation meets nothing else.
    pub async fn cancel(&self, token: CancelToken) {
        let cancel = async {
            if self.dsn.tls {
                token.cancel_query(self.tls().await?).await
            } else {
                token.cancel_query(NoTls).await
            }
            .map_err(|error| describe(&error))
        };
        // If it cannot be told, `statement_timeout` ends the statement.
        if let Ok(Err(reason)) = timeout(CANCEL_TIMEOUT, cancel).await {
            tracing::debug!(reason, "a statement could not be cancelled");
        }
    }

    async fn dial<T>(
        &self,
        tls: T,
    ) -> Result<(Client, tokio_postgres::Connection<Socket, T::Stream>), String>
    where
        T: tokio_postgres::tls::MakeTlsConnect<Socket>,
    {
        let connect = self.dsn.config.connect(tls);
        connect.await.map_err(|error| describe(&error))
    }

    async fn tls(&self) -> Result<MakeRustlsConnect, String> {
        let make = || async {
            let (verify, root_cert) = (self.dsn.verify, self.dsn.root_cert.clone());
            tokio::task::spawn_blocking(move || tls::connector(verify, root_cert))
                .await
                .map_err(|error| format!("tls cannot be set up: {error}"))?
        };
        self.tls.get_or_try_init(make).await.cloned()
    }
}

/// Carries what a client sends and is sent, to the connection's end.
async fn drive<T>(
    mut connection: tokio_postgres::Connection<Socket, T>,
    mut hear: impl FnMut(Notification),
) where
    T: AsyncRead + AsyncWrite + Unpin,
{
    // An error comes back through the client's calls as well.
    while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
        if let AsyncMessage::Notification(notification) = message {
            hear(notification);
        }
    }
}

async fn in_time<T>(connect: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    timeout(CONNECT_TIMEOUT, connect).await.unwrap_or_else(|_| {
        let ms = CONNECT_TIMEOUT.as_millis();
        Err(format!("no connection within {ms} ms"))
    })
}
