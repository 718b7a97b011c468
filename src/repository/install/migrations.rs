//! The daemon's own schema, as embedded migrations.

use diesel::migration::CREATE_MIGRATIONS_TABLE;
use diesel_async::{AsyncMigrationHarness, SimpleAsyncConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::super::connect::Connector;
use super::super::error::one_line;

const EMBEDDED: EmbeddedMigrations = embed_migrations!();

/// A migration once more, as text: diesel runs its own and shows nobody what it runs.
pub(super) struct Migration {
    /// As diesel lists it: the folder's date, digits only.
    pub version: &'static str,
    pub up: &'static str,
    pub down: &'static str,
}

macro_rules! migration {
    ($version:literal, $folder:literal) => {
        Migration {
            version: $version,
            up: include_str!(concat!("../../../migrations/", $folder, "/up.sql")),
            down: include_str!(concat!("../../../migrations/", $folder, "/down.sql")),
        }
    };
}

/// All of them, oldest first.
pub(super) const ALL: [Migration; 4] = [
    migration!("20261121000000", "2026-11-21-000000_invalidation_queue"),
    migration!("20261122000000", "2026-11-22-000000_fencing_tokens"),
    migration!("20261123020000", "2026-11-23-020000_write_journal"),
    migration!("20261123030000", "2026-11-23-030000_hot_keys"),
];

/// Makes the schema, and diesel's list of what was run in it.
const PREPARE: &str = "CREATE SCHEMA IF NOT EXISTS cachewarden; SET search_path = cachewarden";

/// The same as [`run`] does, for people to read, or to run as somebody who has more rights; then the
/// daemon's `role`, which is quoted already, is given those it needs.
pub(super) fn as_text(pending: &[&Migration], role: &str) -> String {
    let mut sql = format!("BEGIN;\n{PREPARE};\n{}", CREATE_MIGRATIONS_TABLE.trim());
    for migration in pending {
        let version = migration.version;
        sql += &format!(
            "\n\n{}\nINSERT INTO cachewarden.__diesel_schema_migrations (version) VALUES ('{version}');",
            migration.up.trim_end()
        );
    }
    sql + &format!(
        "\n\nGRANT USAGE ON SCHEMA cachewarden TO {role};\n\
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA cachewarden TO {role};\n\
         GRANT USAGE ON ALL SEQUENCES IN SCHEMA cachewarden TO {role};\n\
         RESET search_path;\nCOMMIT;"
    )
}

/// Runs those that were not run yet, each in a transaction. Err: why not.
pub(super) async fn run(connector: &Connector) -> Result<(), String> {
    let mut connection = connector.connect().await?;
    let prepared = connection.batch_execute(PREPARE).await;
    prepared.map_err(|error| one_line(&error.to_string()))?;
    // Diesel's migrations block: on a thread that may.
    let run = tokio::task::spawn_blocking(move || {
        let mut harness = AsyncMigrationHarness::new(connection);
        let ran = harness.run_pending_migrations(EMBEDDED);
        ran.map(drop).map_err(|error| one_line(&error.to_string()))
    });
    run.await
        .map_err(|error| format!("the migration was cut short: {error}"))?
}

#[cfg(test)]
mod tests {
    use diesel::migration::MigrationSource;
    use diesel::pg::Pg;

    use super::*;

    #[test]
    fn what_is_shown_is_what_is_embedded() {
        let embedded = MigrationSource::<Pg>::migrations(&EMBEDDED).unwrap();
        let mut versions: Vec<String> = embedded
            .iter()
            .map(|migration| migration.name().version().to_string())
            .collect();
        versions.sort();
        assert_eq!(versions, ALL.map(|migration| migration.version.to_owned()));
    }
}
