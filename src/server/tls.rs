//! TLS with the certificate of the settings: rustls, versions 1.2 and 1.3, HTTP/1.1.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig as Tls;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::app::StartError;
use crate::config::ServerConfig;

/// What accepts TLS connections; `None`: the settings name no certificate.
///
/// # Errors
/// Which file cannot be used, and why.
pub(super) fn acceptor(config: &ServerConfig) -> Result<Option<TlsAcceptor>, StartError> {
    let (Some(cert), Some(key)) = (&config.tls_cert, &config.tls_key) else { return Ok(None) };
    let chain = chain(cert).map_err(|reason| refused("server.tls_cert", cert, &reason))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| {
        refused("server.tls_key", key, &format!("holds no private key in PEM that can be read: {error}"))
    })?;
    let versions = Tls::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| StartError::Tls(error.to_string()))?;
    let mut tls = versions
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| refused("server.tls_key", key, &format!("does not fit server.tls_cert: {error}")))?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(tls))))
}

fn chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let unread = |error| format!("cannot be read: {error}");
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).map_err(unread)?.collect();
    let chain = chain.map_err(unread)?;
    if chain.is_empty() { Err("holds no certificate in PEM".to_owned()) } else { Ok(chain) }
}

fn refused(key: &str, file: &Path, reason: &str) -> StartError {
    StartError::Tls(format!("{key}: {} {reason}", file.display()))
}
