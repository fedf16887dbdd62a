//! Strings and regular expressions in matchers.
//!
//! What an expression may hold is written down at [`expression_builder`], where those who make routes ask too.

use mesh_model::l7::expression_builder;
use mesh_xds_proto::matcher::{self, string_matcher};
use regex::bytes::Regex;

use crate::check::{At, Checked, fields};

/// How a string is compared.
#[derive(Debug, Clone)]
pub(crate) enum Pattern {
    Exact(Box<str>),
    Prefix(Box<str>),
    Suffix(Box<str>),
    Contains(Box<str>),
    /// Anchored at both ends.
    Regex(Regex),
}

/// A pattern with Envoy's `ignore_case`.
#[derive(Debug, Clone)]
pub(crate) struct StringMatch {
    pub(crate) pattern: Pattern,
    pub(crate) ignore_case: bool,
}

impl StringMatch {
    pub(crate) fn compile(message: &matcher::StringMatcher, at: At<'_>) -> Checked<Self> {
        let matcher::StringMatcher { ignore_case, match_pattern } = message;
        let pattern = match match_pattern {
            None => return Err(at.refuse("no pattern")),
            Some(string_matcher::MatchPattern::Exact(text)) => Pattern::Exact(text.as_str().into()),
            Some(string_matcher::MatchPattern::Prefix(text)) => Pattern::Prefix(text.as_str().into()),
            Some(string_matcher::MatchPattern::Suffix(text)) => Pattern::Suffix(text.as_str().into()),
            Some(string_matcher::MatchPattern::Contains(text)) => Pattern::Contains(text.as_str().into()),
            Some(string_matcher::MatchPattern::SafeRegex(regex)) => {
                Pattern::Regex(full_match(regex, at.field("safe_regex"))?)
            }
            Some(string_matcher::MatchPattern::Custom(_)) => {
                return Err(at.field("custom").refuse("not supported by this proxy"));
            }
        };
        // Envoy ignores the flag for expressions.
        let ignore_case = *ignore_case && !matches!(pattern, Pattern::Regex(_));
        Ok(Self { pattern, ignore_case })
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        if !self.ignore_case {
            return match &self.pattern {
                Pattern::Exact(wanted) => text == &**wanted,
                Pattern::Prefix(wanted) => text.starts_with(&**wanted),
                Pattern::Suffix(wanted) => text.ends_with(&**wanted),
                Pattern::Contains(wanted) => text.contains(&**wanted),
                Pattern::Regex(regex) => regex.is_match(text.as_bytes()),
            };
        }
        let text = text.as_bytes();
        match &self.pattern {
            Pattern::Exact(wanted) => text.eq_ignore_ascii_case(wanted.as_bytes()),
            Pattern::Prefix(wanted) => {
                text.get(..wanted.len()).is_some_and(|head| head.eq_ignore_ascii_case(wanted.as_bytes()))
            }
            Pattern::Suffix(wanted) => text
                .len()
                .checked_sub(wanted.len())
                .is_some_and(|start| text[start..].eq_ignore_ascii_case(wanted.as_bytes())),
            Pattern::Contains(wanted) => {
                wanted.is_empty()
                    || text.windows(wanted.len()).any(|part| part.eq_ignore_ascii_case(wanted.as_bytes()))
            }
            Pattern::Regex(regex) => regex.is_match(text),
        }
    }
}

/// An expression that must match the whole text.
pub(crate) fn full_match(message: &matcher::RegexMatcher, at: At<'_>) -> Checked<Regex> {
    build(&format!("^(?:{})$", checked(message, at)?), at)
}

/// An expression that is searched for, for substitutions.
pub(crate) fn search(message: &matcher::RegexMatcher, at: At<'_>) -> Checked<Regex> {
    build(checked(message, at)?, at)
}

fn checked<'m>(message: &'m matcher::RegexMatcher, at: At<'_>) -> Checked<&'m str> {
    fields!(message, at => matcher::RegexMatcher { take: regex; ignore: engine_type; refuse: });
    // Compiled alone first, so that no unbalanced parenthesis can escape the anchors.
    build(regex, at)?;
    Ok(regex)
}

fn build(pattern: &str, at: At<'_>) -> Checked<Regex> {
    expression_builder(pattern).build().map_err(|error| at.field("regex").refuse(error))
}

/// A search and its replacement, with RE2's `\1` turned into the crate's `${1}`.
#[derive(Debug, Clone)]
pub struct Substitution {
    regex: Regex,
    replacement: Box<str>,
}

impl Substitution {
    pub(crate) fn compile(message: &matcher::RegexMatchAndSubstitute, at: At<'_>) -> Checked<Self> {
        fields!(message, at => matcher::RegexMatchAndSubstitute { take: pattern, substitution; ignore: ; refuse: });
        let pattern = pattern.as_ref().ok_or_else(|| at.field("pattern").refuse("missing"))?;
        let regex = search(pattern, at.field("pattern"))?;
        let at_text = at.field("substitution");
        let mut replacement = String::with_capacity(substitution.len() + 4);
        let mut rest = substitution.chars();
        while let Some(c) = rest.next() {
            match c {
                '$' => replacement.push_str("$$"),
                '\\' => match rest.next() {
                    Some('\\') => replacement.push('\\'),
                    Some(digit) if digit.is_ascii_digit() => {
                        let group = digit as usize - '0' as usize;
                        if group >= regex.captures_len() {
                            return Err(at_text.refuse(format!("the pattern has no group {group}")));
                        }
                        replacement.push_str("${");
                        replacement.push(digit);
                        replacement.push('}');
                    }
                    _ => return Err(at_text.refuse("a backslash must be followed by a digit or a backslash")),
                },
                other => replacement.push(other),
            }
        }
        Ok(Self { regex, replacement: replacement.into() })
    }

    /// All occurrences replaced.
    pub fn apply(&self, text: &str) -> String {
        let changed = self.regex.replace_all(text.as_bytes(), self.replacement.as_bytes());
        String::from_utf8_lossy(&changed).into_owned()
    }
}
