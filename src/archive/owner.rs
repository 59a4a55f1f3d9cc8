//! Who writes to an archive. One primary at a time, so that two histories are never mixed.
//!
//! Each owner has an epoch and an object `walcast/owner/<epoch>.json` that is made and never changed: making what is there
//! already fails in buckets and directories alike, so an epoch has one owner. The highest epoch writes. A writer looks
//! before each batch whether there is an epoch after its own, and stops for ever when there is.

use super::docs::OwnerDoc;
use super::error::ArchiveError;
use super::key::Key;
use super::store::Store;
use std::fmt;

/// Whom an archive belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// The epoch.
    pub epoch: u64,
    /// Its document.
    pub doc: OwnerDoc,
}

impl fmt::Display for Owned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} on {} (epoch {})",
            self.doc.database, self.doc.server, self.epoch
        )
    }
}

/// Documents of owners that stay.
const KEPT: u64 = 16;

/// The right to write to an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The owner's epoch.
    pub epoch: u64,
}

impl Claim {
    /// Becomes the owner of an archive. A writer whose own it is already takes the next epoch: a run of the same database
    /// that still lives somewhere, such as in the original of a copied machine, stops by that.
    ///
    /// # Errors
    /// [`ArchiveError::Owned`] if another one is and `take_over` is not said; what the store says.
    pub async fn take(
        store: &Store,
        me: &OwnerDoc,
        take_over: bool,
    ) -> Result<Claim, ArchiveError> {
        loop {
            let current = Owned::read(store).await?;
            let epoch = match &current {
                Some(owned) if owned.doc.id != me.id && !take_over => {
                    return Err(ArchiveError::Owned {
                        archive: store.location().to_string(),
                        owner: owned.clone(),
                    });
                }
                Some(owned) => owned.epoch + 1,
                None => 1,
            };
            if store
                .create_object(Key::Owner { epoch }, me.encode())
                .await?
            {
                let claim = Claim { epoch };
                claim.prune(store).await;
                return Ok(claim);
            }
            // Somebody was faster; or this very call, in a try whose answer was lost: look again.
        }
    }

    /// Fails if the archive has another owner since. It fails as well if this one's own document is not there: then this
    /// is not the archive that was taken, but an empty directory in which it is not mounted, or it was removed.
    pub async fn check(&self, store: &Store) -> Result<(), ArchiveError> {
        let own = Key::Owner { epoch: self.epoch };
        let next = Key::Owner {
            epoch: self.epoch + 1,
        };
        // In this order: of two old documents the older goes first, so who has lost meets one of them, or misses its own.
        if !store.has(next).await? && store.has(own).await? {
            return Ok(());
        }
        let archive = store.location().to_string();
        match Owned::read(store).await? {
            Some(owner) if owner.epoch > self.epoch => Err(ArchiveError::Owned { archive, owner }),
            _ => Err(ArchiveError::Missing { key: own, archive }),
        }
    }

    /// Removes documents of owners long ago: there is one for each start. It costs nobody anything if that fails.
    async fn prune(&self, store: &Store) {
        let Ok(objects) = store.list(Key::OWNERS).await else {
            return;
        };
        let is_old = |key: &Key| matches!(key, Key::Owner { epoch } if epoch + KEPT <= self.epoch);
        // They are sorted: from the oldest on, see [`Claim::check`].
        for key in objects.iter().map(|o| o.key).filter(is_old) {
            if store.delete(key).await.is_err() {
                return;
            }
        }
    }
}

impl Owned {
    /// The owner of the highest epoch; `None` if nobody ever wrote here.
    pub async fn read(store: &Store) -> Result<Option<Owned>, ArchiveError> {
        let objects = store.list(Key::OWNERS).await?;
        let epochs = objects.iter().filter_map(|object| match object.key {
            Key::Owner { epoch } => Some(epoch),
            _ => None,
        });
        let Some(epoch) = epochs.max() else {
            return Ok(None);
        };
        let key = Key::Owner { epoch };
        let missing = || ArchiveError::Missing {
            key,
            archive: store.location().to_string(),
        };
        let bytes = store.get(key).await?.ok_or_else(missing)?;
        let doc = OwnerDoc::parse(&bytes).map_err(|error| store.damaged(key, error))?;
        Ok(Some(Owned { epoch, doc }))
    }
}
