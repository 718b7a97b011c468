//! What is asked of Postgres before anything starts: whether it knows what the configuration names.

use super::error::StartError;
use crate::config::Config;
use crate::repository::{Installer, Repository, RepositoryError, WatchProblem};
use std::sync::Arc;
use tokio::runtime::Handle;

/// The repository, its queries checked. A Postgres that is away is no reason not to start: hits can be served.
pub(super) async fn repository(
    config: &Config,
    runtime: &Handle,
) -> Result<Option<Repository>, StartError> {
    let Some(postgres) = &config.postgres else {
        return Ok(None);
    };
    let repository = Repository::new(postgres, &config.caches, runtime.clone())?;
    if let Some(error) = check_queries(config, &repository).await? {
        tracing::warn!(%error, "the queries could not be checked; misses will fail until postgres is there");
    }
    Ok(Some(repository))
}

/// Sees that Postgres takes every declared query; what is returned is why it cannot be asked.
pub(super) async fn check_queries(
    config: &Config,
    repository: &Repository,
) -> Result<Option<RepositoryError>, StartError> {
    match repository.check().await {
        Ok(problems) if problems.is_empty() => Ok(None),
        Ok(problems) => {
            let reports: Vec<String> = problems
                .iter()
                .map(|problem| {
                    let hint = problem.hint.as_deref();
                    config.report_declared(
                        problem.cache,
                        problem.declared,
                        problem.offset,
                        &problem.message,
                        hint,
                    )
                })
                .collect();
            Err(StartError::Queries(reports.join("\n\n")))
        }
        Err(error @ RepositoryError::Connect(_)) => Ok(Some(error)),
        Err(error) => Err(error.into()),
    }
}

/// Who knows what has to be installed for watches, writes and locks; `None`: none of them is declared.
pub(super) fn installer(
    config: &Config,
    runtime: &Handle,
) -> Result<Option<Arc<Installer>>, RepositoryError> {
    let postgres = config.postgres.as_ref();
    postgres
        .filter(|_| {
            let needs_queue = !config.invalidation.watches.is_empty() || config.declares_writes();
            needs_queue || config.needs_fences()
        })
        .map(|postgres| Installer::new(postgres, &config.invalidation, runtime.clone()))
        .transpose()
        .map(|installer| {
            installer.map(|installer| {
                let installer = installer.with_fences(config.needs_fences());
                Arc::new(installer.with_writes(config.declares_writes()))
            })
        })
}

/// Sees that what is watched is installed: a change that nobody tells of would leave its old value cached. A Postgres that is
/// away is no reason not to start; it is asked again when it is back.
pub(super) async fn check_watches(config: &Config, runtime: &Handle) -> Result<(), StartError> {
    let Some(installer) = installer(config, runtime)? else {
        return Ok(());
    };
    match installer.plan().await {
        Ok(plan) if plan.problems.is_empty() && plan.flaws.is_empty() => Ok(()),
        Ok(plan) => {
            let problems = [plan.problems, plan.flaws].concat();
            Err(StartError::Watches(WatchProblem::report(&problems, config)))
        }
        Err(error @ RepositoryError::Connect(_)) => {
            tracing::warn!(%error, "whether the watched tables have their triggers could not be checked");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}
