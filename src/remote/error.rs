//! Why a target did not do what it was asked, in the codes of the contract.

use std::time::{Duration, SystemTime};

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::domain::json;
use crate::wire::Problem;
use crate::wire::record::RecordError;

/// Longest pause that a target may ask for.
const LONGEST_WISH: Duration = Duration::from_secs(60);

/// Why a target did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct RemoteError {
    /// A code of the contract.
    pub code: String,
    /// What happened.
    pub message: String,
    /// What to do.
    pub hint: String,
    /// The same request may succeed later.
    pub transient: bool,
    /// How long the target asks to wait before.
    pub retry_after: Option<Duration>,
    /// The code that the target itself gave.
    pub answered: Option<String>,
}

impl From<RemoteError> for RecordError {
    fn from(error: RemoteError) -> Self {
        Self { code: error.code, message: error.message, hint: error.hint }
    }
}

impl RemoteError {
    fn new(code: &str, message: impl Into<String>, hint: &str) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            hint: hint.to_owned(),
            transient: false,
            retry_after: None,
            answered: None,
        }
    }

    /// The target answered with this code.
    pub fn is(&self, code: &str) -> bool {
        self.answered.as_deref() == Some(code)
    }

    /// An earlier try of the same request is still being received there.
    pub(super) fn once_more(self) -> Self {
        Self { transient: self.transient || self.is("conflict"), ..self }
    }

    /// What the settings say of the target cannot be used.
    pub fn settings(message: &str, hint: &str) -> Self {
        Self::new("target_refused", message, hint)
    }

    /// Nobody answered, or someone on the way who says that it is not for now.
    pub(super) fn unreachable(reason: &str) -> Self {
        let hint = "Check the target's address, that it is running, and that the network between the two environments is open.";
        let message = format!("The target environment cannot be reached: {reason}.");
        Self { transient: true, ..Self::new("target_unreachable", message, hint) }
    }

    /// Whoever answers is no environment.
    pub(super) fn foreign(message: &str) -> Self {
        let hint = "Check that the target's address is that of a Ferry server of about the same version.";
        Self::new("target_refused", message, hint)
    }

    /// What went wrong below HTTP; names no address that the target gave.
    pub(super) fn of_transport(error: &reqwest::Error) -> Self {
        let mut chain = String::new();
        let mut cause: Option<&dyn std::error::Error> = Some(error);
        while let Some(inner) = cause {
            chain = inner.to_string();
            if chain.contains("certificate") {
                return Self::new(
                    "target_tls",
                    format!("The target's TLS certificate was not accepted: {chain}."),
                    "Renew the certificate, or use the host name that it was made for.",
                );
            }
            cause = inner.source();
        }
        if error.is_timeout() { Self::unreachable("it did not answer in time") } else { Self::unreachable(&chain) }
    }

    /// What an answer that is no success means.
    pub(super) fn of_status(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        if status == StatusCode::UNAUTHORIZED {
            return Self::new(
                "target_unauthorized",
                "The target does not accept the token.",
                "Make a new token at the target and enter it in this target's settings.",
            );
        }
        if status == StatusCode::FORBIDDEN {
            return Self::new(
                "target_unauthorized",
                "The target's token does not have the permission that is needed.",
                "The token's user needs the permission migration.import at the target.",
            );
        }
        let problem: Option<Problem> = json::outside(body).ok();
        // 460: a piece came in another state than it was sent.
        let transient = matches!(status.as_u16(), 408 | 425 | 429 | 460 | 502 | 503 | 504);
        let said = match problem {
            Some(problem) => {
                let code = match problem.code.as_str() {
                    _ if transient => "target_unreachable",
                    own if own.starts_with("package_") || own == "gone" || own == "storage_full" => own,
                    _ => "target_refused",
                };
                let message = format!("The target answered {}: {}", status.as_u16(), problem.detail);
                Self {
                    answered: Some(problem.code.clone()),
                    ..Self::new(code, message, "Look at the target's records and its log.")
                }
            }
            None if transient => Self::unreachable(&format!("it answered {}", status.as_u16())),
            None => {
                // An answer to HEAD has no body.
                let known = [(404, "not_found"), (409, "conflict"), (410, "gone")];
                let known = known.iter().find(|(number, _)| *number == status.as_u16());
                let answered = known.map(|(_, code)| (*code).to_owned());
                Self { answered, ..Self::foreign(&format!("The target answered {}.", status.as_u16())) }
            }
        };
        let wish = headers.get(RETRY_AFTER).and_then(|value| pause(value.to_str().ok()?.trim()));
        let retry_after = wish.map(|wish| wish.min(LONGEST_WISH));
        Self { transient, retry_after, ..said }
    }
}

/// `Retry-After`: seconds, or a date.
fn pause(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).ok()
}
