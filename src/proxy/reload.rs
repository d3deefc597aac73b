//! RELOAD: read, check, compare, and only then put the new configuration in force, all at once.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

use super::{News, Proxy};
use crate::admin::{Control, PeerTraffic, Shutdown};
use crate::config::{Config, Secret, SecretFileError, SecretSource, changes};
use crate::net::tls::Tls;
use crate::net::{Endpoint, Listener};
use crate::pool::Pools;

impl Control for Proxy {
    fn reload(&self) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        Box::pin(reload(self))
    }

    fn shutdown(&self, how: Shutdown) {
        self.end(how);
    }

    fn ending(&self) -> Option<Shutdown> {
        self.ending_now()
    }

    fn listening(&self) -> Vec<(u32, Endpoint)> {
        let shown = |listener: Arc<Listener>| Some((listener.descriptor(), listener.endpoint()?));
        self.listeners().filter_map(shown).collect()
    }

    fn configured(&self) {
        self.defer_accepts();
        self.tell(News::Configured(self.pools.config.load_full()));
    }

    fn arriving(&self) -> usize {
        self.arriving.load(Relaxed)
    }

    fn peers(&self) -> Vec<PeerTraffic> {
        self.traffic.rows()
    }
}

/// Reads the configuration again. On any problem nothing changes, and the error names every one.
pub(super) async fn reload(proxy: &Proxy) -> Result<(), String> {
    proxy.tell(News::Reloading);
    let result = read_again(proxy).await;
    proxy.tell(News::Reloaded);
    result
}

async fn read_again(proxy: &Proxy) -> Result<(), String> {
    let _one_at_a_time = proxy.reloading.lock().await;
    let old = proxy.pools.config.load_full();
    let loaded = match Config::load(&old.next_file()) {
        Ok(loaded) => loaded,
        Err(problems) => {
            for problem in &problems.0 {
                tracing::error!("reload failed, nothing was changed: {problem}");
            }
            return Err(problems.to_string());
        }
    };
    let tls = match Tls::load(&loaded.config, Some(&proxy.pools.tls.load())) {
        Ok(tls) => tls,
        Err(error) => {
            tracing::error!("reload failed, nothing was changed: {error}");
            return Err(error.to_string());
        }
    };
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let mut new = loaded.config;
    if new.general.conffile.is_none() {
        // It stays, as in PgBouncer, though the file does not name itself.
        new.general.conffile = old.general.conffile.as_ref().map(|_| old.next_file());
    }
    let changed = changes(&old, &new);
    for setting in &changed.settings {
        let (name, old, new) = (setting.name, &setting.old, &setting.new);
        if setting.boot_only {
            tracing::warn!("{name} was changed from {old} to {new}: this takes effect only at a restart");
        } else {
            tracing::info!("{name} was changed from {old} to {new}");
        }
    }
    if new.resolver != old.resolver && !changed.settings.iter().any(|setting| setting.name == "resolv_conf") {
        tracing::warn!("the file of resolv_conf has changed: this takes effect only at a restart");
    }
    new.general.keep_boot_settings(&old.general);
    new.resolver.clone_from(&old.resolver);
    {
        let _configuring = proxy.pools.configuring.lock().unwrap_or_else(PoisonError::into_inner);
        proxy.pools.tls.store(Arc::new(tls));
        proxy.pools.put_in_force(new);
    }
    proxy.configured();
    warm(&proxy.pools);
    tracing::info!("configuration reloaded");
    Ok(())
}

/// Takes over what was read from changed `password_file`s: as a reload that changes nothing else. What cannot be read
/// leaves the former secret in force.
pub(super) fn take_over(pools: &Pools, found: Vec<(PathBuf, Result<Secret, SecretFileError>)>) {
    let mut secrets = BTreeMap::new();
    for (path, secret) in found {
        match secret {
            Ok(secret) => drop(secrets.insert(path, secret)),
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "cannot read password_file, the former secret stays");
            }
        }
    }
    let _configuring = pools.configuring.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((config, changed)) = pools.config.load().with_secrets(&secrets) {
        pools.put_in_force(config);
        tracing::info!(sections = changed.join(", "), "secrets were read again");
    }
}

/// Makes the pools that `min_pool_size` keeps filled before the first client comes: those of forced users, and those of
/// the users in `[users]` who have a secret.
pub(super) fn warm(pools: &Pools) {
    let config = pools.config.load_full();
    for database in config.databases.values() {
        if config.min_pool_size(database) == 0 {
            continue;
        }
        match &database.user {
            Some(user) => drop(pools.pool(database, user)),
            None => {
                let listed = config.users.values().filter(|user| {
                    matches!(user.secret_source, SecretSource::Config | SecretSource::PasswordFile)
                        && user.password.is_some()
                });
                for user in listed {
                    drop(pools.pool(database, &user.name));
                }
            }
        }
    }
}
