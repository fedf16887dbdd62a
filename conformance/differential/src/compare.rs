//! What differs between two exchanges.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::case::{Case, Difference, Request};
use crate::observed::Exchange;

/// A value that is not the same with both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Divergence {
    /// The request's name.
    pub(crate) request: String,
    /// Which value, such as `response.headers.server.0`.
    pub(crate) at: String,
    /// Ours; none when it is not there.
    pub(crate) millrace: Option<Value>,
    /// Envoy's.
    pub(crate) envoy: Option<Value>,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<Value>| value.as_ref().map_or("nothing".to_owned(), Value::to_string);
        let (millrace, envoy) = (shown(&self.millrace), shown(&self.envoy));
        write!(f, "request {}: {}: millrace {millrace}, envoy {envoy}", self.request, self.at)
    }
}

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Findings {
    /// What fails the case, in words.
    pub(crate) failures: Vec<String>,
    /// Differences that are meant to be, each with its reason.
    pub(crate) deliberate: Vec<String>,
}

/// Compares what each request of a case led to, ours first.
pub(crate) fn compare(case: &Case, millrace: &[Exchange], envoy: &[Exchange]) -> Findings {
    let mut findings = Findings::default();
    let mut divergences = Vec::new();
    for ((request, ours), theirs) in case.requests.iter().zip(millrace).zip(envoy) {
        for (proxy, exchange) in [("millrace", ours), ("envoy", theirs)] {
            let status = exchange.response.status;
            if status != request.status && !allows_status(case, request, proxy) {
                let name = &request.name;
                findings.failures.push(format!(
                    "request {name}: {proxy} answered {status}, not {}: {:?}",
                    request.status, exchange.response
                ));
            }
        }
        divergences.extend(between(&request.name, ours, theirs));
    }
    let meant: Vec<(&Difference, &str)> = case
        .differences
        .iter()
        .flat_map(|difference| difference.at.iter().map(move |at| (difference, at.as_str())))
        .collect();
    // How many values differ as each of them says.
    let mut values = vec![0_usize; meant.len()];
    for divergence in divergences {
        let index = meant.iter().position(|(difference, at)| {
            difference.request.as_ref().is_none_or(|name| *name == divergence.request)
                && divergence.at.starts_with(at)
        });
        match index {
            Some(index) => values[index] += 1,
            None => findings.failures.push(divergence.to_string()),
        }
    }
    for ((difference, at), values) in meant.into_iter().zip(values) {
        let request = difference.request.as_deref().unwrap_or("any");
        match values {
            0 => findings.failures.push(format!("`{at}` does not differ: take it out of the case")),
            _ => findings.deliberate.push(format!("request {request}: {at}: {}", difference.reason)),
        }
    }
    findings
}

/// The written status is Envoy's; where ours is meant to differ, it may.
fn allows_status(case: &Case, request: &Request, proxy: &str) -> bool {
    let is_meant = case.differences.iter().any(|difference| {
        difference.at.iter().any(|at| "response.status".starts_with(at.as_str()))
            && difference.request.as_ref().is_none_or(|name| *name == request.name)
    });
    proxy == "millrace" && is_meant
}

fn between(request: &str, ours: &Exchange, theirs: &Exchange) -> Vec<Divergence> {
    let (mut left, right) = (values(ours), values(theirs));
    let mut divergences = Vec::new();
    for (at, envoy) in right {
        let millrace = left.remove(&at);
        if millrace.as_ref() != Some(&envoy) {
            divergences.push(Divergence { request: request.to_owned(), at, millrace, envoy: Some(envoy) });
        }
    }
    for (at, millrace) in left {
        divergences.push(Divergence {
            request: request.to_owned(),
            at,
            millrace: Some(millrace),
            envoy: None,
        });
    }
    divergences
}

/// All values by where they are.
fn values(exchange: &Exchange) -> BTreeMap<String, Value> {
    fn collect(at: String, value: Value, all: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(fields) => {
                fields.into_iter().for_each(|(name, value)| collect(format!("{at}.{name}"), value, all));
            }
            Value::Array(values) => {
                let indexed = values.into_iter().enumerate();
                indexed.for_each(|(index, value)| collect(format!("{at}.{index}"), value, all));
            }
            value => drop(all.insert(at.trim_start_matches('.').to_owned(), value)),
        }
    }
    let mut all = BTreeMap::new();
    let value = serde_json::to_value(exchange).expect("an exchange is made of text and numbers");
    collect(String::new(), value, &mut all);
    all
}

#[cfg(test)]
mod tests {
    use super::{Exchange, compare};
    use crate::case::Case;

    fn case(differences: &str) -> Case {
        let text =
            format!("{{about: x, requests: [{{name: one, status: 200}}], differences: {differences}}}");
        serde_saphyr::from_str(&text).expect("a case")
    }

    fn exchange(status: u16, server: &str) -> Vec<Exchange> {
        let mut exchange = Exchange::default();
        exchange.response.status = status;
        exchange.response.headers.insert("server".to_owned(), vec![server.to_owned()]);
        vec![exchange]
    }

    #[test]
    fn the_same_passes_and_another_header_fails() {
        let case = case("[]");
        let same = compare(&case, &exchange(200, "x"), &exchange(200, "x"));
        assert!(same.failures.is_empty() && same.deliberate.is_empty());
        let other = compare(&case, &exchange(200, "x"), &exchange(200, "y"));
        assert_eq!(other.failures, ["request one: response.headers.server.0: millrace \"x\", envoy \"y\""]);
    }

    #[test]
    fn a_status_that_is_wrong_with_both_fails() {
        assert_eq!(compare(&case("[]"), &exchange(503, "x"), &exchange(503, "x")).failures.len(), 2);
    }

    #[test]
    fn a_deliberate_difference_is_told_and_one_that_is_gone_fails() {
        let case = case("[{at: [response.headers.server], reason: pride}]");
        let meant = compare(&case, &exchange(200, "x"), &exchange(200, "y"));
        assert!(meant.failures.is_empty());
        assert!(meant.deliberate[0].ends_with(": pride"), "{meant:?}");
        let gone = compare(&case, &exchange(200, "x"), &exchange(200, "x"));
        assert_eq!(gone.failures, ["`response.headers.server` does not differ: take it out of the case"]);
    }
}
