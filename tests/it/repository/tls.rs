//! TLS to Postgres: each `sslmode` verifies what it says, and no less.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use cachewarden::cli::demo::servers::{Postgres, PostgresOptions};
use cachewarden::config::{self, Secret};
use cachewarden::repository::{Repository, RepositoryError};
use tokio::runtime::Handle;

use crate::support::DEADLINE;
use crate::support::eventually::eventually;
use crate::support::servers::{connect, own_postgres};

/// `openssl` in a folder, with arguments as one would type them.
fn openssl(dir: &Path, args: &str) {
    let status = Command::new("openssl")
        .args(args.split_whitespace())
        .current_dir(dir)
        .stderr(Stdio::null())
        .status()
        .unwrap_or_else(|error| panic!("openssl: {error}; apt-get install openssl"));
    assert!(status.success(), "openssl {args}");
}

/// Makes a root in `ca.pem`, another in `other.pem`, and a certificate of the first for `localhost`.
fn certificates(dir: &Path) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(
        dir,
        &format!("req -x509 {key} -days 2 -subj /CN=ca -keyout ca.key -out ca.pem"),
    );
    openssl(
        dir,
        &format!("req -x509 {key} -days 2 -subj /CN=other -keyout other.key -out other.pem"),
    );
    openssl(
        dir,
        &format!("req {key} -subj /CN=localhost -keyout server.key -out server.csr"),
    );
    std::fs::write(dir.join("names"), "subjectAltName=DNS:localhost").unwrap();
    openssl(
        dir,
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
         -extfile names -out server.crt",
    );
}

/// Gives the server its certificate, and a user who has to prove knowing the password.
async fn equip(postgres: &Postgres, certificates: &Path) {
    let data = postgres.dir().join("data");
    let owner = std::fs::metadata(&data).unwrap();
    for name in ["server.crt", "server.key"] {
        let file = data.join(name);
        std::fs::copy(certificates.join(name), &file).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        chown(&file, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    let hba = data.join("pg_hba.conf");
    let rules = std::fs::read_to_string(&hba).unwrap();
    std::fs::write(
        &hba,
        format!("hostssl all shop all scram-sha-256\nhostnossl all shop all reject\n{rules}"),
    )
    .unwrap();
    let client = connect(&postgres.postgres_url("postgres")).await;
    client
        .batch_execute("CREATE ROLE shop LOGIN PASSWORD 'S3CR3T'")
        .await
        .unwrap();
    client
        .batch_execute("ALTER SYSTEM SET ssl = on")
        .await
        .unwrap();
    client
        .batch_execute("SELECT pg_reload_conf()")
        .await
        .unwrap();
    eventually(DEADLINE, async || {
        let client = connect(&postgres.postgres_url("postgres")).await;
        let row = client.query_one("SHOW ssl", &[]).await.unwrap();
        match row.get::<_, &str>(0) {
            "on" => Ok(()),
            seen => Err(seen.to_owned()),
        }
    })
    .await;
}

async fn reach(url: &str) -> Result<(), RepositoryError> {
    let postgres = config::Postgres {
        url: Secret::new(url),
        pool_size: 1,
        statement_timeout: Duration::from_secs(5),
    };
    let repository = Repository::new(&postgres, &[], Handle::current())?;
    repository.check().await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sslmode_verifies_what_it_says_and_no_less() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let postgres = own_postgres(&PostgresOptions::default());
    equip(&postgres, folder.path()).await;
    let (ours, other) = (
        folder.path().join("ca.pem"),
        folder.path().join("other.pem"),
    );
    let (ours, other) = (ours.display(), other.display());
    let unknown = Some("invalid peer certificate: UnknownIssuer");
    let misnamed = Some("not valid for name");
    for (host, options, error) in [
        ("localhost", "sslmode=prefer".to_owned(), None),
        ("127.0.0.1", "sslmode=require".to_owned(), None),
        (
            "127.0.0.1",
            "sslmode=require&channel_binding=require".to_owned(),
            None,
        ),
        (
            "127.0.0.1",
            format!("sslmode=require&sslrootcert={ours}"),
            None,
        ),
        (
            "127.0.0.1",
            format!("sslmode=require&sslrootcert={other}"),
            unknown,
        ),
        (
            "127.0.0.1",
            format!("sslmode=verify-ca&sslrootcert={ours}"),
            None,
        ),
        (
            "127.0.0.1",
            format!("sslmode=verify-ca&sslrootcert={other}"),
            unknown,
        ),
        (
            "localhost",
            format!("sslmode=verify-full&sslrootcert={ours}"),
            None,
        ),
        (
            "localhost",
            format!("sslmode=verify-full&sslrootcert={other}"),
            unknown,
        ),
        (
            "127.0.0.1",
            format!("sslmode=verify-full&sslrootcert={ours}"),
            misnamed,
        ),
        (
            "localhost",
            "sslmode=verify-full&sslrootcert=/nowhere.pem".to_owned(),
            Some("`/nowhere.pem`"),
        ),
        (
            "localhost",
            "sslmode=disable".to_owned(),
            Some("no encryption"),
        ),
    ] {
        let url = format!(
            "postgres://shop:S3CR3T@{host}:{}/postgres?{options}",
            postgres.port()
        );
        let reached = reach(&url).await.map_err(|error| error.to_string());
        match (&reached, error) {
            (Ok(()), None) => {}
            (Err(said), Some(error)) => {
                assert!(said.contains(error), "{host} {options}: {said}");
                assert!(!said.contains("S3CR3T"), "{said}");
            }
            _ => panic!("{host} {options}: {reached:?}"),
        }
    }
}
