//! Log lines and metrics of the process.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// Writes log lines to standard error: JSON with `FERRY_LOG_FORMAT=json`, else for people; `RUST_LOG`
/// says which, `usual` unless set. A second call changes nothing.
pub fn log(usual: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let json = std::env::var("FERRY_LOG_FORMAT").is_ok_and(|format| format == "json");
    let _ = if json { lines.json().try_init() } else { lines.try_init() };
}

/// The process' metrics; servers of one process share them.
pub fn metrics() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let recorder = PrometheusBuilder::new().build_recorder();
            let handle = recorder.handle();
            let _ = metrics::set_global_recorder(recorder);
            handle
        })
        .clone()
}
