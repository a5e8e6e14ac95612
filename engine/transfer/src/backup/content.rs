//! The content of one file: ids of its chunks, which come from several threads in any order.

use super::awaited::Awaited;
use super::shared::Shared;
use engine_repository::Id;
use std::sync::Arc;

/// The ids of a file's chunks, some of which are still being worked out.
#[derive(Debug, Clone, Default)]
pub(super) struct Content(Arc<Shelf>);

#[derive(Debug, Default)]
struct Shelf {
    /// Known from the start: nothing was read.
    is_known: bool,
    ids: Awaited<Ids>,
}

#[derive(Debug, Default)]
struct Ids {
    all: Vec<Id>,
    missing: usize,
}

impl Content {
    /// What is known from the start.
    pub(super) fn known(ids: Vec<Id>) -> Self {
        let ids = Awaited::of(Ids { all: ids, missing: 0 });
        Self(Arc::new(Shelf { is_known: true, ids }))
    }

    /// Whether it was known from the start.
    pub(super) fn is_known(&self) -> bool {
        self.0.is_known
    }

    /// Adds a chunk at the end, whose id comes by [`Place::set`].
    pub(super) fn expect(&self) -> Place {
        let mut number = 0;
        self.0.ids.change(|ids| {
            number = ids.all.len();
            ids.all.push(Id::ZERO);
            ids.missing += 1;
            false
        });
        Place { content: self.clone(), number }
    }

    /// Adds a chunk at the end whose id is known.
    pub(super) fn push(&self, id: Id) {
        self.0.ids.change(|ids| {
            ids.all.push(id);
            false
        });
    }

    /// Ids that are known without a gap, from the one with this number on.
    pub(super) fn known_from(&self, first: usize) -> Vec<Id> {
        self.0.ids.now(|ids| {
            let ids = ids.all.get(first..).unwrap_or_default();
            ids.iter().take_while(|id| **id != Id::ZERO).copied().collect()
        })
    }

    /// All ids, as soon as they are known; `None` when the backup ends before.
    pub(super) fn wait(&self, shared: &Shared<'_>) -> Option<Vec<Id>> {
        let all = |ids: &mut Ids| (ids.missing == 0).then(|| std::mem::take(&mut ids.all));
        self.0.ids.wait(shared, all)
    }
}

/// Where the id of one chunk goes.
#[derive(Debug)]
pub(super) struct Place {
    content: Content,
    number: usize,
}

impl Place {
    /// Says which id it is.
    pub(super) fn set(self, id: Id) {
        self.content.0.ids.change(|ids| {
            ids.all[self.number] = id;
            ids.missing -= 1;
            ids.missing == 0
        });
    }
}
