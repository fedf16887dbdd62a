//! Why the API server did not answer as it should, and what somebody can do about it.

use std::error::Error;
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

/// Longest wait that a server may ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(120);

/// What kind of failure it is: decides what is tried next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No connection, or it was cut.
    Unreachable,
    /// The server's certificate is not trusted.
    Untrusted,
    /// The server does not know who asks.
    Unauthenticated,
    /// The one who asks may not.
    Forbidden,
    /// There is no such resource: its definition is not installed.
    Absent,
    /// The position in the history is too old: everything has to be read again.
    Expired,
    /// The server asks to come back later, or has a problem of its own.
    Busy,
    /// Somebody else wrote the object meanwhile.
    Conflict,
    /// The server does not take the request.
    Refused,
    /// What came is not what an API server answers.
    Broken,
}

/// One failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of.
    pub cause: Cause,
    /// What happened. It never holds a token or a value of an object.
    pub message: String,
    /// What to do about it.
    pub fix: String,
    /// When the server wants to be asked again.
    pub(crate) retry_after: Option<Duration>,
}

impl Failure {
    pub(crate) fn new(cause: Cause, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { cause, message: message.into(), fix: fix.into(), retry_after: None }
    }

    /// The configuration of the access cannot be used.
    pub(crate) fn of_access(error: &dyn Error) -> Self {
        let fix = "correct the kubeconfig (--k8s-kubeconfig-path) or the service account of the pod; a file with a \
                   token holds nothing else, not even a line break";
        Self::new(Cause::Unauthenticated, chain(error), fix)
    }

    /// The request did not get an answer.
    pub(crate) fn of_transport(error: &(dyn Error + 'static)) -> Self {
        // kube puts a word of its own before what its client says.
        let error = match error.downcast_ref() {
            Some(kube::Error::Service(source)) => &**source,
            _ => error,
        };
        if let Some(tls) = find::<rustls::Error>(error) {
            return Self::of_tls(tls);
        }
        if let Some(auth) = find::<kube::client::AuthError>(error) {
            return Self::of_access(auth);
        }
        let fix = "check that the API server runs and that its address is right: --k8s-api-server-urls, `server` \
                   of the kubeconfig, or k8sServiceHost and k8sServicePort of the chart";
        Self::new(Cause::Unreachable, chain(error), fix)
    }

    fn of_tls(error: &rustls::Error) -> Self {
        use rustls::{CertificateError, Error};
        let fix = match error {
            Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                "give the CA that signed the server's certificate: certificate-authority of the kubeconfig, or \
                 ca.crt of the service account"
            }
            Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => {
                "use a name or an address that the server's certificate has, or set tls-server-name in the \
                 kubeconfig"
            }
            Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            ) => "renew the server's certificate, or set this machine's clock",
            Error::AlertReceived(_) => {
                "the server refuses this client's certificate: renew client-certificate of the kubeconfig"
            }
            _ => "check that an API server is at this address and that its URL begins with https",
        };
        Self::new(Cause::Untrusted, format!("no trust in the server: {error}"), fix)
    }

    /// The server answered with something else than success. `body` is the start of the answer; `what` names the
    /// verb and the resource.
    pub(crate) fn of_answer(status: StatusCode, headers: &HeaderMap, body: &[u8], what: &str) -> Self {
        let said: Status = serde_json::from_slice(body).unwrap_or_default();
        let mut failure = Self::of_status(status.as_u16(), &said.message, what);
        failure.retry_after = headers
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(|seconds| Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER));
        failure
    }

    /// The same, of an error within a stream.
    pub(crate) fn of_status(code: u16, said: &str, what: &str) -> Self {
        let said = if said.is_empty() { "no reason given" } else { said };
        let message = format!("{what}: {code}: {said}");
        let (cause, fix) = match code {
            401 => (
                Cause::Unauthenticated,
                "give a token or a client certificate that is valid: see the kubeconfig or the service account"
                    .to_owned(),
            ),
            403 => (
                Cause::Forbidden,
                format!("let the user or service account {what}: add the rule to its ClusterRole or Role"),
            ),
            404 => (Cause::Absent, "install its custom resource definition".to_owned()),
            409 => (Cause::Conflict, "nothing: it is tried again".to_owned()),
            410 => (Cause::Expired, "nothing: everything is read again".to_owned()),
            408 | 429 | 500..=599 => {
                (Cause::Busy, "nothing, unless it lasts: see the API server's log".to_owned())
            }
            _ => (Cause::Refused, "check that an API server is at this address".to_owned()),
        };
        Self::new(cause, message, fix)
    }

    /// Something came that cannot be read.
    pub(crate) fn broken(message: impl Into<String>) -> Self {
        Self::new(
            Cause::Broken,
            message,
            "check that an API server is at this address, without a proxy between",
        )
    }

    /// Whether another server, or credentials read anew, may help.
    pub(crate) fn asks_for_another_connection(&self) -> bool {
        matches!(self.cause, Cause::Unreachable | Cause::Untrusted | Cause::Unauthenticated)
    }

    /// Whether it is the server that has a problem and not one resource.
    pub fn is_of_server(&self) -> bool {
        matches!(
            self.cause,
            Cause::Unreachable | Cause::Untrusted | Cause::Unauthenticated | Cause::Busy | Cause::Broken
        )
    }
}

/// What an API server says of an error (`meta/v1` Status).
#[derive(Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    message: String,
}

/// An error with its causes, without repeating what the error before it has said already.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// The first error of a type among an error and its causes, also of those that an I/O error wraps.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
