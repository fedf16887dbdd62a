//! Secrets. No message holds a value.

use crate::Secret;

use super::{Check, Issues};

impl Check for Secret {
    fn check(&self, issues: &mut Issues<'_>) {
        if self.type_ != Secret::TYPE_TLS {
            return;
        }
        for key in [Secret::TLS_CERTIFICATE, Secret::TLS_KEY] {
            if !self.data.contains_key(key) {
                let fix = format!(
                    "add `{key}` in Base64; `kubectl create secret tls NAME --cert=FILE --key=FILE \
                     --dry-run=client -o yaml` writes both"
                );
                issues.error(
                    format!("data[{key}]"),
                    format!("a Secret of type {} needs it", self.type_),
                    fix,
                );
            }
        }
    }
}
