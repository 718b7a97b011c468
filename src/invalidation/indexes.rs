//! Indexes of keys: which there are, and how one is built that can be taken for whole.
//!
//! An index is a sorted set of the keys with one first segment. It is whole while it holds a mark that says so, and may be swept
//! by only then. This is why it can be believed:
//!
//! 1. A build puts its own mark into the index, then looks at every key of Redis, lists those of the segment, and puts the mark
//!    of a whole index in the place of its own, if that is still there.
//! 2. From the build's mark on, every value is stored together with its entry, or together with the removal of the whole index: by
//!    the same script, and whatever the configuration of who stores it (`cache/scripts/list_values.lua`). So a daemon that keeps no
//!    index, however long it has been running, costs the others a pass and never a value.
//! 3. An entry is removed together with its value, or when its value is not there.
//! 4. The marks are members of the set. Whatever Redis does to the set (evicts it, lets it expire, comes back empty or from a
//!    snapshot), it does to the marks.
//!
//! What other programs store by themselves is listed by a build, and missed from then on; so a prefix in
//! `invalidation.prefixes` may not have an index.

use super::sweeper::Broken;
use crate::config;
use crate::keyspace::names::{index_of, segment_of};
use crate::store::{Pinned, Reply, Script, Store, StoreError};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// An index outlives the longest declared life of its values by this.
const BEYOND_LIFE: Duration = Duration::from_secs(60);
/// Keys listed by one script call.
const KEYS_A_CALL: usize = 1000;

/// An index that is kept.
#[derive(Debug)]
pub(super) struct Index {
    /// Its key in Redis.
    pub(super) name: Bytes,
    segment: String,
    life: Duration,
}

/// The indexes of a configuration. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Indexes(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    /// By the first segment of their keys.
    kept: HashMap<Vec<u8>, Arc<Index>>,
    /// Those that would be of keys that are declared without.
    unkept: Vec<Bytes>,
    scripts: IndexScripts,
}

impl Indexes {
    /// What is declared.
    pub fn of(caches: &[config::Cache], namespaces: &[config::Namespace]) -> Self {
        let mut known = Known::default();
        for segment in config::segments(caches, namespaces) {
            let name = Bytes::from(index_of(segment.name.as_bytes()));
            if !segment.indexed {
                known.unkept.push(name);
                continue;
            }
            let index = Index {
                name,
                life: 2 * segment.longest_ttl + BEYOND_LIFE,
                segment: segment.name,
            };
            let key = index.segment.as_bytes().to_vec();
            known.kept.insert(key, Arc::new(index));
        }
        Self(Arc::new(known))
    }

    /// The index of the keys that begin with `head`, if one is kept.
    pub(super) fn index(&self, head: &[u8]) -> Option<&Arc<Index>> {
        self.0.kept.get(segment_of(head))
    }

    pub(super) fn scripts(&self) -> &IndexScripts {
        &self.0.scripts
    }

    /// Removes what earlier daemons kept and we do not. The first value we store would do so, too; until then it only takes
    /// memory.
    pub(super) async fn remove_unkept(&self, store: &Store) {
        let removing = async { store.pin().await?.unlink(&self.0.unkept).await };
        if let Err(error) = removing.await {
            tracing::debug!(%error, "indexes that are not kept any more were not removed");
        }
    }

    /// Begins to build the index of each of `heads` that has one and is not whole.
    pub(super) async fn build(
        &self,
        pinned: &Pinned,
        heads: impl Iterator<Item = &[u8]>,
    ) -> Result<Builds, StoreError> {
        let mut builds = Builds {
            under_way: Vec::new(),
            segments: Vec::new(),
            indexes: self.clone(),
        };
        for index in heads.filter_map(|head| self.index(head)) {
            if builds.segments.contains(&index.segment) {
                continue;
            }
            let id = Uuid::new_v4();
            let build = Build {
                index: Arc::clone(index),
                mark: format!(":build:{id}").into(),
                whole: format!(":whole:{id}").into(),
            };
            if self.0.scripts.begin(pinned, &build).await? {
                builds.segments.push(index.segment.clone());
                builds.under_way.push(build);
            }
        }
        Ok(builds)
    }
}

/// One index that is being built.
#[derive(Debug)]
struct Build {
    index: Arc<Index>,
    mark: Bytes,
    whole: Bytes,
}

/// The indexes that one pass builds.
#[derive(Debug)]
pub(super) struct Builds {
    under_way: Vec<Build>,
    segments: Vec<String>,
    indexes: Indexes,
}

impl Builds {
    /// Beginnings of the keys that the pass has to bring.
    pub(super) fn segments(&self) -> &[String] {
        &self.segments
    }

    /// Lists keys of the pass that were not removed.
    pub(super) async fn add(&mut self, pinned: &Pinned, keys: &[Bytes]) -> Result<(), StoreError> {
        let mut given_up = Vec::new();
        for build in &self.under_way {
            let segment = build.index.segment.as_bytes();
            let own = keys.iter().filter(|key| key.starts_with(segment));
            let own: Vec<Bytes> = own.cloned().collect();
            for keys in own.chunks(KEYS_A_CALL) {
                if !self.indexes.0.scripts.extend(pinned, build, keys).await? {
                    given_up.push(build.mark.clone());
                    break;
                }
            }
        }
        self.give_up(&given_up);
        Ok(())
    }

    /// The pass was whole, and so are they. How many.
    pub(super) async fn end(mut self, pinned: &Pinned) -> Result<u64, Broken> {
        let (mut built, mut given_up) = (0, Vec::new());
        for build in &self.under_way {
            match self.indexes.0.scripts.conclude(pinned, build).await? {
                true => built += 1,
                false => given_up.push(build.mark.clone()),
            }
        }
        self.give_up(&given_up);
        Ok(built)
    }

    fn give_up(&mut self, marks: &[Bytes]) {
        for build in (self.under_way).extract_if(.., |build| marks.contains(&build.mark)) {
            let segment = build.index.segment.as_str();
            self.segments.retain(|known| known != segment);
            tracing::info!(
                segment,
                "the index of these keys was removed while it was built: by Redis for want of memory, or by a daemon that stores \
                 them with index = false; the next sweep builds it anew"
            );
        }
    }
}

/// A page of an index.
#[derive(Debug)]
pub(super) struct Page {
    /// What says that the index is whole.
    pub(super) mark: Bytes,
    /// Entries looked at.
    pub(super) looked: usize,
    /// Values removed.
    pub(super) removed: u64,
    /// Entries looked at and not removed.
    pub(super) keys: Vec<Bytes>,
}

/// The scripts over indexes.
#[derive(Debug)]
pub(super) struct IndexScripts {
    begin: Script,
    extend: Script,
    conclude: Script,
    sweep: Script,
}

impl Default for IndexScripts {
    fn default() -> Self {
        Self {
            begin: Script::new("begin_index", include_str!("scripts/begin_index.lua")),
            extend: Script::new("extend_index", include_str!("scripts/extend_index.lua")),
            conclude: Script::new("conclude_index", include_str!("scripts/conclude_index.lua")),
            sweep: Script::new("sweep_index", include_str!("scripts/sweep_index.lua")),
        }
    }
}

impl IndexScripts {
    async fn begin(&self, pinned: &Pinned, build: &Build) -> Result<bool, StoreError> {
        let life_ms = Bytes::from(build.index.life.as_millis().to_string());
        let args = [build.mark.clone(), life_ms];
        yes(&self.begin, pinned, &build.index, &args).await
    }

    async fn extend(
        &self,
        pinned: &Pinned,
        build: &Build,
        keys: &[Bytes],
    ) -> Result<bool, StoreError> {
        let args = [std::slice::from_ref(&build.mark), keys].concat();
        yes(&self.extend, pinned, &build.index, &args).await
    }

    async fn conclude(&self, pinned: &Pinned, build: &Build) -> Result<bool, StoreError> {
        let args = [build.mark.clone(), build.whole.clone()];
        yes(&self.conclude, pinned, &build.index, &args).await
    }

    /// Removes `doomed`, or all of the range, and reads the range; `None` if the index is not whole. See the script.
    pub(super) async fn sweep(
        &self,
        pinned: &Pinned,
        index: &Index,
        args: &[Bytes],
    ) -> Result<Option<Page>, StoreError> {
        let script = &self.sweep;
        let reply = pinned.run(script, &[&index.name], args).await?;
        if reply == Reply::Nil {
            return Ok(None);
        }
        let unexpected = StoreError::Unexpected {
            command: script.name(),
        };
        page(reply).ok_or(unexpected).map(Some)
    }
}

async fn yes(
    script: &Script,
    pinned: &Pinned,
    index: &Index,
    args: &[Bytes],
) -> Result<bool, StoreError> {
    let reply = pinned.run(script, &[&index.name], args).await?;
    Ok(reply.as_integer() == Some(1))
}

fn page(reply: Reply) -> Option<Page> {
    let mut items = reply.into_list()?.into_iter();
    let (Reply::Text(mark), Reply::Integer(looked), Reply::Integer(removed)) =
        (items.next()?, items.next()?, items.next()?)
    else {
        return None;
    };
    let keys = items.map(|item| match item {
        Reply::Text(key) => Some(key),
        _ => None,
    });
    Some(Page {
        mark,
        looked: usize::try_from(looked).ok()?,
        removed: u64::try_from(removed).ok()?,
        keys: keys.collect::<Option<_>>()?,
    })
}
