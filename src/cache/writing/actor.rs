//! The cache actor's part in writing: it hands it on. Thin.

use super::super::{CacheActor, CacheError};
use super::{Remove, Save};
use actix::{Context, Handler, ResponseFuture};

impl Handler<Save> for CacheActor {
    type Result = ResponseFuture<Result<(), CacheError>>;

    fn handle(&mut self, save: Save, _ctx: &mut Context<Self>) -> Self::Result {
        let (means, caches) = self.means_and_handle();
        Box::pin(async move { super::save(&means, &caches, save).await })
    }
}

impl Handler<Remove> for CacheActor {
    type Result = ResponseFuture<Result<u64, CacheError>>;

    fn handle(&mut self, remove: Remove, _ctx: &mut Context<Self>) -> Self::Result {
        let (means, caches) = self.means_and_handle();
        Box::pin(async move { super::remove(&means, &caches, remove).await })
    }
}
