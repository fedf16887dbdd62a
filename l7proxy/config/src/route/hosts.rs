//! From a host to a virtual host: exact names, then the longest `*.suffix`, then `*`.

use std::collections::HashMap;

use smallvec::SmallVec;

use crate::check::{At, Checked};

/// The longest host looked up; DNS names end at 253 bytes, plus a port.
const LONGEST: usize = 272;

#[derive(Debug, Default)]
pub(crate) struct HostIndex {
    exact: HashMap<Box<str>, u32, foldhash::fast::RandomState>,
    /// Keyed by what follows the star, leading dot included.
    wildcard: HashMap<Box<str>, u32, foldhash::fast::RandomState>,
    any: Option<u32>,
    ignore_port: bool,
}

impl HostIndex {
    pub(crate) fn new(ignore_port: bool) -> Self {
        Self { ignore_port, ..Self::default() }
    }

    pub(crate) fn ignores_port(&self) -> bool {
        self.ignore_port
    }

    /// Adds one of the domains of virtual host `index`.
    pub(crate) fn insert(&mut self, domain: &str, index: u32, at: At<'_>) -> Checked<()> {
        let lower = domain.to_ascii_lowercase();
        let duplicate = if lower == "*" {
            self.any.replace(index).is_some()
        } else if let Some(suffix) = lower.strip_prefix('*') {
            if !suffix.starts_with('.') || suffix.len() < 2 || suffix.contains('*') {
                return Err(at.refuse(format!("{domain:?}: a wildcard must be \"*\" or \"*.\" and a name")));
            }
            self.wildcard.insert(suffix.into(), index).is_some()
        } else if lower.is_empty() || lower.contains('*') {
            return Err(
                at.refuse(format!("{domain:?}: a star may stand only in front, as in \"*.example.com\""))
            );
        } else {
            self.exact.insert(lower.into(), index).is_some()
        };
        // Envoy refuses the whole configuration as well: which of the two would win is anybody's guess.
        if duplicate {
            Err(at.refuse(format!("{domain:?} is a domain of another virtual host")))
        } else {
            Ok(())
        }
    }

    pub(crate) fn find(&self, authority: &str) -> Option<u32> {
        let host = if self.ignore_port { without_port(authority) } else { authority };
        if host.len() > LONGEST {
            return self.any;
        }
        if !host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return self.find_lower(host);
        }
        let mut lower: SmallVec<[u8; LONGEST]> = SmallVec::from_slice(host.as_bytes());
        lower.make_ascii_lowercase();
        self.find_lower(std::str::from_utf8(&lower).ok()?)
    }

    fn find_lower(&self, host: &str) -> Option<u32> {
        if let Some(index) = self.exact.get(host) {
            return Some(*index);
        }
        if !self.wildcard.is_empty() {
            // From the longest suffix to the shortest. The star stands for at least one character.
            for (dot, _) in host.match_indices('.').filter(|(dot, _)| *dot > 0) {
                if let Some(index) = self.wildcard.get(&host[dot..]) {
                    return Some(*index);
                }
            }
        }
        self.any
    }
}

/// The host without `:port`. An IPv6 literal keeps its brackets.
pub(crate) fn without_port(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon)
            if authority[colon + 1..].bytes().all(|byte| byte.is_ascii_digit())
                && (!authority[..colon].contains(':') || authority[..colon].ends_with(']')) =>
        {
            &authority[..colon]
        }
        _ => authority,
    }
}
