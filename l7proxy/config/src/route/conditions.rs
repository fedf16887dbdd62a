//! What a route asks of a request besides its path.

use http::{HeaderName, HeaderValue};
use mesh_xds_proto::route::{
    self, header_matcher::HeaderMatchSpecifier, query_parameter_matcher::QueryParameterMatchSpecifier,
};
use smallvec::SmallVec;

use super::RequestHead;
use crate::check::{At, Checked, fields};
use crate::pattern::{Pattern, StringMatch, full_match};

/// All must hold.
#[derive(Debug, Default)]
pub(crate) struct Conditions {
    headers: Vec<HeaderCondition>,
    query: Vec<QueryCondition>,
    grpc: bool,
    /// In parts of a million; none: always.
    fraction: Option<u32>,
}

#[derive(Debug)]
struct HeaderCondition {
    subject: Subject,
    test: HeaderTest,
    invert: bool,
    missing_is_empty: bool,
}

#[derive(Debug)]
enum Subject {
    Method,
    Path,
    Authority,
    Scheme,
    Header(HeaderName),
}

#[derive(Debug)]
enum HeaderTest {
    Value(StringMatch),
    Range(std::ops::Range<i64>),
    Present(bool),
}

#[derive(Debug)]
struct QueryCondition {
    name: Box<str>,
    /// None: present is enough. Some(Err(wanted)): `present_match: wanted`.
    test: Result<StringMatch, bool>,
}

impl Conditions {
    pub(crate) fn compile(
        headers: &[route::HeaderMatcher],
        query: &[route::QueryParameterMatcher],
        grpc: bool,
        fraction: Option<u32>,
        at: At<'_>,
    ) -> Checked<Self> {
        let at_headers = at.field("headers");
        let at_query = at.field("query_parameters");
        Ok(Self {
            headers: headers
                .iter()
                .enumerate()
                .map(|(index, header)| HeaderCondition::compile(header, at_headers.index(index)))
                .collect::<Checked<_>>()?,
            query: query
                .iter()
                .enumerate()
                .map(|(index, parameter)| QueryCondition::compile(parameter, at_query.index(index)))
                .collect::<Checked<_>>()?,
            grpc,
            fraction,
        })
    }

    pub(crate) fn hold(&self, head: &RequestHead<'_>) -> bool {
        self.headers.iter().all(|condition| condition.holds(head))
            && self.query.iter().all(|condition| condition.holds(head.query))
            && (!self.grpc || is_grpc(head))
            && self.fraction.is_none_or(|fraction| crate::random::below(1_000_000) < fraction)
    }
}

fn is_grpc(head: &RequestHead<'_>) -> bool {
    head.headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
        value
            .strip_prefix("application/grpc")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
    })
}

impl HeaderCondition {
    fn compile(message: &route::HeaderMatcher, at: At<'_>) -> Checked<Self> {
        fields!(message, at => route::HeaderMatcher {
            take: name, invert_match, treat_missing_header_as_empty, header_match_specifier; ignore: ; refuse:
        });
        let subject = match name.to_ascii_lowercase().as_str() {
            ":method" => Subject::Method,
            ":path" => Subject::Path,
            ":authority" | "host" => Subject::Authority,
            ":scheme" => Subject::Scheme,
            other => Subject::Header(
                HeaderName::from_bytes(other.as_bytes())
                    .map_err(|_| at.field("name").refuse(format!("{name:?} is not a header name")))?,
            ),
        };
        let plain = |pattern| HeaderTest::Value(StringMatch { pattern, ignore_case: false });
        let test = match header_match_specifier {
            None => HeaderTest::Present(true),
            Some(HeaderMatchSpecifier::PresentMatch(wanted)) => HeaderTest::Present(*wanted),
            Some(HeaderMatchSpecifier::ExactMatch(text)) => plain(Pattern::Exact(text.as_str().into())),
            Some(HeaderMatchSpecifier::PrefixMatch(text)) => plain(Pattern::Prefix(text.as_str().into())),
            Some(HeaderMatchSpecifier::SuffixMatch(text)) => plain(Pattern::Suffix(text.as_str().into())),
            Some(HeaderMatchSpecifier::ContainsMatch(text)) => plain(Pattern::Contains(text.as_str().into())),
            Some(HeaderMatchSpecifier::SafeRegexMatch(regex)) => {
                plain(Pattern::Regex(full_match(regex, at.field("safe_regex_match"))?))
            }
            Some(HeaderMatchSpecifier::RangeMatch(range)) => HeaderTest::Range(range.start..range.end),
            Some(HeaderMatchSpecifier::StringMatch(matcher)) => {
                HeaderTest::Value(StringMatch::compile(matcher, at.field("string_match"))?)
            }
        };
        Ok(Self { subject, test, invert: *invert_match, missing_is_empty: *treat_missing_header_as_empty })
    }

    fn holds(&self, head: &RequestHead<'_>) -> bool {
        match &self.subject {
            Subject::Method => self.test_value(Some(head.method.as_str())),
            Subject::Authority => self.test_value(Some(head.authority)),
            Subject::Scheme => self.test_value(Some(head.scheme)),
            Subject::Path => match head.query {
                None => self.test_value(Some(head.path)),
                Some(query) => {
                    let mut whole: SmallVec<[u8; 512]> = SmallVec::from_slice(head.path.as_bytes());
                    whole.push(b'?');
                    whole.extend_from_slice(query.as_bytes());
                    self.test_value(std::str::from_utf8(&whole).ok())
                }
            },
            Subject::Header(name) => {
                let mut values = head.headers.get_all(name).iter().peekable();
                if values.peek().is_none() {
                    return self.test_value(None);
                }
                // Each value by itself, as Envoy does: one that matches is enough, and inverted none may.
                // A value that is not text matches nothing, inverted or not: a "deny unless" route must
                // not open to bytes that nobody can read.
                let holds =
                    |value: &HeaderValue| value.to_str().is_ok_and(|text| self.test_value(Some(text)));
                if self.invert { values.all(holds) } else { values.any(holds) }
            }
        }
    }

    /// A missing header satisfies only presence tests, inverted or not, unless it counts as empty.
    fn test_value(&self, value: Option<&str>) -> bool {
        if let HeaderTest::Present(wanted) = &self.test {
            return ((value.is_some() || self.missing_is_empty) == *wanted) != self.invert;
        }
        let Some(text) = value.or(self.missing_is_empty.then_some("")) else { return false };
        let holds = match &self.test {
            HeaderTest::Value(matcher) => matcher.matches(text),
            HeaderTest::Range(range) => text.parse::<i64>().is_ok_and(|number| range.contains(&number)),
            HeaderTest::Present(_) => true,
        };
        holds != self.invert
    }
}

impl QueryCondition {
    fn compile(message: &route::QueryParameterMatcher, at: At<'_>) -> Checked<Self> {
        fields!(message, at => route::QueryParameterMatcher {
            take: name, query_parameter_match_specifier; ignore: ; refuse:
        });
        let test = match query_parameter_match_specifier {
            None => Err(true),
            Some(QueryParameterMatchSpecifier::PresentMatch(wanted)) => Err(*wanted),
            Some(QueryParameterMatchSpecifier::StringMatch(matcher)) => {
                Ok(StringMatch::compile(matcher, at.field("string_match"))?)
            }
        };
        Ok(Self { name: name.as_str().into(), test })
    }

    /// The first parameter of that name counts, as it was sent.
    fn holds(&self, query: Option<&str>) -> bool {
        let value = query.and_then(|query| {
            query.split('&').find_map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (name == &*self.name).then_some(value)
            })
        });
        match (&self.test, value) {
            (Err(wanted), value) => value.is_some() == *wanted,
            (Ok(_), None) => false,
            (Ok(matcher), Some(value)) => matcher.matches(value),
        }
    }
}
