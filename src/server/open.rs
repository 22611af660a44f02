//! The opening of the store and of its blob store, with what their locks protect.

use tracing::{info, warn};

use super::{Error, config::Config};
use crate::{
    blob::{Blobs, Location},
    error::chain,
    namespace::{Purpose, Recovered},
    store::{self, Store},
};

/// Opens the store, and logs in one line what the start has cleaned up. `leftovers` is the number of staging
/// files that [`blobs`] has removed.
pub(super) async fn store(
    config: &Config,
    purpose: Purpose,
    blobs: Blobs,
    leftovers: u64,
) -> Result<Store, Error> {
    let settings = store::Config {
        data: config.data.clone(),
        database: config.database.clone(),
        reserve_bytes: config.reserve_bytes,
        reclaim_grace: config.reclaim_grace,
        operation_life: config.operation_life,
        object_hold: config.object_hold,
        sweep_every: config.sweep_every,
        lease: config.lease,
        purpose,
        ..store::Config::new(&config.data)
    };
    let (store, recovered) = Store::open(settings, blobs)
        .await
        .map_err(|error| Error::new("cannot open the store").because(error))?;
    if leftovers > 0 || recovered != Recovered::default() {
        info!(
            operations_failed = recovered.operations,
            pins_dropped = recovered.pins,
            leftovers_swept = leftovers,
            "cleared away what an earlier run left unfinished"
        );
    }
    Ok(store)
}

/// Opens the blob store and removes the staging files that a crash left. Returns their number.
pub(super) async fn blobs(config: &Config) -> Result<(Blobs, u64), Error> {
    let blobs = match &config.blobs {
        Location::Folder(folder) => Blobs::local(folder).map_err(|error| {
            Error::new(format!("cannot open the blob store {}", config.blobs)).because(error)
        })?,
        Location::Memory => Blobs::memory(),
        Location::Bucket(bucket) => {
            let opened = Blobs::bucket(bucket).await;
            opened.map_err(|refused| Error::new(refused.to_string()))?
        }
    };
    // No staging file is in use: the lock keeps other servers out, and this one has put nothing yet.
    let leftovers = blobs.sweep_staging(|_| false).await.unwrap_or_else(|error| {
        // Staging files that stay only take up space.
        let error = chain(&error);
        warn!(error, "what an earlier run left in the blob store is not swept");
        0
    });
    Ok((blobs, leftovers))
}

/// Makes a store that is a copy a store of its own, once its server has started. Closes it after an error.
pub(super) async fn release(store: &Store) -> Result<(), Error> {
    if let Err(error) = store.release_copy().await {
        store.close().await;
        return Err(Error::new("cannot open the store").because(error));
    }
    Ok(())
}
