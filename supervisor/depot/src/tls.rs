//! TLS from two files, which are read again when their keeper says so.

use crate::error::DepotError;
use crate::place::read;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use supervisor_trust::UnixSeconds;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::time::Time;

/// A chain of certificates and a key are not longer than this.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// Of a certificate's life, this much passes before it is renewed: two of three parts.
const RENEWAL_PARTS: (u64, u64) = (2, 3);

/// The depot's certificate, and how to come by the next one.
#[derive(Debug)]
pub struct Certificates {
    chain: PathBuf,
    key: PathBuf,
    in_use: Mutex<InUse>,
}

#[derive(Debug)]
struct InUse {
    config: Arc<ServerConfig>,
    begins: UnixSeconds,
    ends: UnixSeconds,
}

impl Certificates {
    /// The chain and the key in two files, in PEM.
    pub fn read(chain: &Path, key: &Path) -> Result<Self, DepotError> {
        let in_use = Mutex::new(load(chain, key)?);
        Ok(Self { chain: chain.to_owned(), key: key.to_owned(), in_use })
    }

    /// Both in one file, or, as long as there is none, a stand-in that has ended long ago.
    pub fn read_or(path: &Path, stand_in: &[u8]) -> Result<Self, DepotError> {
        if path.exists() {
            return Self::read(path, path);
        }
        let ended = UnixSeconds::new(0);
        let in_use =
            InUse { begins: ended, ends: ended, ..made_of((path, stand_in), (path, stand_in))? };
        Ok(Self { chain: path.to_owned(), key: path.to_owned(), in_use: Mutex::new(in_use) })
    }

    /// Reads the files again. If they cannot be used, the old ones stay.
    pub fn reload(&self) -> Result<(), DepotError> {
        let new = load(&self.chain, &self.key)?;
        *self.held() = new;
        Ok(())
    }

    /// Whole days until it ends.
    pub fn days_left(&self, now: UnixSeconds) -> u64 {
        now.days_until(self.held().ends)
    }

    /// When it is to be renewed: with a third of its life left.
    pub fn is_due_at(&self) -> UnixSeconds {
        let in_use = self.held();
        let (begins, ends) = (in_use.begins.seconds(), in_use.ends.seconds());
        let (part, parts) = RENEWAL_PARTS;
        UnixSeconds::new(begins + ends.saturating_sub(begins) * part / parts)
    }

    /// What new connections use.
    pub(crate) fn in_use(&self) -> Arc<ServerConfig> {
        self.held().config.clone()
    }

    fn held(&self) -> MutexGuard<'_, InUse> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn load(chain: &Path, key: &Path) -> Result<InUse, DepotError> {
    let bytes = |path| read(path, PEM_BYTES_MAX);
    made_of((chain, &bytes(chain)?), (key, &bytes(key)?))
}

/// Of the chain and the key, each with the file it is from.
fn made_of(
    (path, chain): (&Path, &[u8]),
    (key_path, key): (&Path, &[u8]),
) -> Result<InUse, DepotError> {
    let wrong_in = |path: &Path, what| DepotError::Certificate { path: path.to_owned(), what };
    let wrong = |what: String| wrong_in(path, what);
    let certificates = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(error.to_string()))?;
    let private = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| wrong_in(key_path, error.to_string()))?;
    let first = certificates.first().map(|first| Certificate::from_der(first));
    let Some(Ok(first)) = first else { return Err(wrong("it holds no certificate".to_owned())) };
    let validity = first.tbs_certificate.validity;
    let time = |time: Time| UnixSeconds::new(time.to_unix_duration().as_secs());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, private))
        .map_err(|error| wrong(error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let (begins, ends) = (time(validity.not_before), time(validity.not_after));
    Ok(InUse { config: Arc::new(config), begins, ends })
}
