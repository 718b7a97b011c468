//! What keys that are written behind ought to be, said once more and without Redis.

use cachewarden::journal::Place;

pub const KEYS: usize = 3;

/// What a row says, and so what is written, loaded and stored: a version; `None`: there is no row.
pub type Row = Option<u32>;

/// What was acknowledged, or what another program put into the journal.
#[derive(Clone, Debug)]
pub struct Write {
    /// Redis gives it; until it was seen there, nobody knows it.
    pub place: Option<Place>,
    /// Empty where another program wrote it.
    pub id: String,
    pub key: Option<usize>,
    pub row: Row,
    /// Whether it stands in the journal.
    pub waits: bool,
}

/// What lies where a pending write belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pending {
    #[default]
    Nothing,
    /// The write with this number.
    Write(usize),
    /// Something of another program.
    Strange,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    pub row: Row,
    /// By a daemon that does not know that this cache is written behind, while a write was pending.
    pub is_over_pending: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Key {
    /// What Postgres says.
    pub row: Row,
    /// The number of the newest write that is in there.
    saved: Option<usize>,
    pub value: Option<Stored>,
    /// The copy that outlives an invalidation.
    pub copy: Option<Row>,
    /// By which load it is held: the number of its token.
    pub lease: Option<usize>,
    pub is_listed: bool,
    pub pending: Pending,
    /// Another program has overwritten a pending write: nothing can be promised until the next.
    is_disturbed: bool,
}

/// What a load is told of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Pending(Row),
    There(Row),
    Taken,
    Held,
}

/// What becomes of the values of a load.
#[derive(Clone, Copy, Debug)]
pub enum Fill {
    Store,
    Remove,
    Leave,
}

/// A load that is under way.
#[derive(Clone, Debug, Default)]
pub struct Load {
    pub token: usize,
    /// The keys of which it got the leases, and what it read from Postgres then.
    pub rows: Vec<(usize, Row)>,
    /// Whether its daemon knows that writes may be pending.
    pub is_aware: bool,
}

#[derive(Default)]
pub struct Model {
    pub writes: Vec<Write>,
    pub keys: [Key; KEYS],
    versions: u32,
}

impl Model {
    /// A version that was never there.
    pub fn version(&mut self) -> u32 {
        self.versions += 1;
        self.versions
    }

    /// The numbers of the writes in the journal, in its order.
    pub fn waiting(&self) -> Vec<usize> {
        let all = 0..self.writes.len();
        all.filter(|write| self.writes[*write].waits).collect()
    }

    /// All of them, or none: the journal holds no more than `limit`.
    pub fn accept(&mut self, writes: &[(usize, Row)], limit: usize) -> bool {
        if self.waiting().len() + writes.len() > limit {
            return false;
        }
        for (key, row) in writes {
            self.enter(String::new(), Some(*key), *row);
            self.keys[*key] = Key {
                row: self.keys[*key].row,
                saved: self.keys[*key].saved,
                pending: Pending::Write(self.writes.len() - 1),
                ..Key::default()
            };
        }
        true
    }

    /// Another program adds to the journal.
    pub fn enter(&mut self, id: String, key: Option<usize>, row: Row) {
        self.writes.push(Write {
            place: None,
            id,
            key,
            row,
            waits: true,
        });
    }

    /// Another program puts something where a pending write belongs.
    pub fn disturb(&mut self, key: usize) {
        self.keys[key].pending = Pending::Strange;
        self.keys[key].is_disturbed = true;
    }

    /// The writes behind a place.
    pub fn read(&self, after: Option<Place>, limit: usize) -> Vec<usize> {
        let is_behind = |write: &usize| after.is_none() || self.writes[*write].place > after;
        let waiting = self.waiting().into_iter();
        waiting.filter(is_behind).take(limit).collect()
    }

    /// They are in Postgres, and leave the journal.
    pub fn complete(&mut self, writes: &[usize]) {
        for number in writes {
            let write = &mut self.writes[*number];
            write.waits = false;
            let Some(key) = write.key.filter(|_| !write.id.is_empty()) else {
                continue;
            };
            let key = &mut self.keys[key];
            if key.saved < Some(*number) {
                key.saved = Some(*number);
                key.row = write.row;
            }
            if key.pending == Pending::Write(*number) {
                key.pending = Pending::Nothing;
                (key.lease, key.is_listed, key.value) = (None, false, None);
            }
        }
    }

    /// A load looks at a key, and reads the row if it gets the lease.
    pub fn acquire(&mut self, key: usize, load: &mut Load, anew: bool) -> Told {
        let writes = &self.writes;
        let key_now = &mut self.keys[key];
        if let (Pending::Write(write), true) = (key_now.pending, load.is_aware) {
            return Told::Pending(writes[write].row);
        }
        if let Some(value) = key_now.value.filter(|_| !anew) {
            return Told::There(value.row);
        }
        if key_now.lease.is_some() {
            return Told::Held;
        }
        (key_now.lease, key_now.is_listed) = (Some(load.token), true);
        load.rows.push((key, key_now.row));
        Told::Taken
    }

    /// Whether the lease of a key was the load's until now.
    pub fn end(&mut self, load: &Load, (key, row): (usize, Row), fill: Fill) -> bool {
        let key = &mut self.keys[key];
        if key.lease != Some(load.token) {
            return false;
        }
        key.lease = None;
        if !std::mem::take(&mut key.is_listed) {
            return false;
        }
        let is_over_pending = matches!(key.pending, Pending::Write(_));
        assert!(
            !is_over_pending || !load.is_aware,
            "a fill over a pending write"
        );
        let stored = Stored {
            row,
            is_over_pending,
        };
        match fill {
            Fill::Store => (key.value, key.copy) = (Some(stored), Some(row)),
            Fill::Remove => (key.value, key.copy) = (None, None),
            Fill::Leave => {}
        }
        true
    }

    /// Another program changes a row, and says so.
    pub fn change(&mut self, key: usize) {
        let version = self.version();
        let key = &mut self.keys[key];
        key.row = Some(version);
        (key.lease, key.is_listed, key.value) = (None, false, None);
    }

    /// What is promised, of every key.
    pub fn check(&self) {
        for (number, key) in self.keys.iter().enumerate() {
            let mine = |write: &usize| self.writes[*write].key == Some(number);
            let acknowledged = |write: &usize| mine(write) && !self.writes[*write].id.is_empty();
            let newest = self.waiting().into_iter().rev().find(acknowledged);
            let saved = key.saved.filter(|saved| Some(*saved) >= newest);
            if let (Some(newest), None, false) = (newest, saved, key.is_disturbed) {
                assert_eq!(key.pending, Pending::Write(newest), "of {number}");
            }
            if let Some(value) = key.value.filter(|value| !value.is_over_pending)
                && !key.is_disturbed
            {
                assert_eq!(key.pending, Pending::Nothing, "under a value of {number}");
                assert_eq!(value.row, key.row, "a value of {number}");
            }
        }
    }
}
