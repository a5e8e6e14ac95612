//! TLS from two files, which are read again when their keeper says so.

use crate::error::DepotError;
use crate::place::read;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A chain of certificates and a key are not longer than this.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// The depot's certificate, and how to come by the next one.
#[derive(Debug)]
pub struct Certificates {
    chain: PathBuf,
    key: PathBuf,
    in_use: Mutex<Arc<ServerConfig>>,
}

impl Certificates {
    /// The chain and the key in two files, in PEM.
    pub fn read(chain: &Path, key: &Path) -> Result<Self, DepotError> {
        let in_use = Mutex::new(Arc::new(load(chain, key)?));
        Ok(Self { chain: chain.to_owned(), key: key.to_owned(), in_use })
    }

    /// Reads the files again. If they cannot be used, the old ones stay.
    pub fn reload(&self) -> Result<(), DepotError> {
        let new = Arc::new(load(&self.chain, &self.key)?);
        *self.in_use.lock().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// What new connections use.
    pub(crate) fn in_use(&self) -> Arc<ServerConfig> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn load(chain: &Path, key: &Path) -> Result<ServerConfig, DepotError> {
    let wrong = |path: &Path, what: String| DepotError::Certificate { path: path.to_owned(), what };
    let bytes = read(chain, PEM_BYTES_MAX)?;
    let certificates = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(chain, error.to_string()))?;
    let bytes = read(key, PEM_BYTES_MAX)?;
    let private =
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| wrong(key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, private))
        .map_err(|error| wrong(chain, error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
