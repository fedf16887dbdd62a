//! Gateways.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::gateway::{Gateway, GatewayListeners};

use super::{Check, Issues, names};

impl Check for Gateway {
    fn check(&self, issues: &mut Issues<'_>) {
        if self.spec.gateway_class_name.is_empty() {
            issues.error("spec.gatewayClassName", "is empty", "name a GatewayClass, such as `cilium`");
        }
        let listeners = Vec::from_iter(&self.spec.listeners);
        if listeners.is_empty() {
            let fix = "add one, such as `{name: web, port: 80, protocol: HTTP}`";
            issues.error("spec.listeners", "is empty", fix);
        }
        if listeners.len() > 64 {
            issues.error("spec.listeners", "has more than 64 entries", "spread them over several Gateways");
        }
        let mut names_seen = BTreeSet::new();
        let mut sockets_seen = BTreeSet::new();
        for (index, listener) in listeners.into_iter().enumerate() {
            let at = format!("spec.listeners[{index}]");
            check_listener(issues, &at, listener);
            if !names_seen.insert(listener.name.as_str()) {
                let problem = format!("{:?} is there twice", listener.name);
                issues.error(format!("{at}.name"), problem, "give each listener its own name");
            }
            let host = listener.hostname.as_deref().unwrap_or_default();
            if !sockets_seen.insert((listener.port, listener.protocol.as_str(), host)) {
                issues.error(
                    &at,
                    "has port, protocol and hostname of another listener",
                    "change one of the three",
                );
            }
        }
        for (index, address) in self.spec.addresses.iter().flatten().enumerate() {
            let at = format!("spec.addresses[{index}]");
            let value = address.value.as_deref().unwrap_or_default();
            match address.r#type.as_deref().unwrap_or("IPAddress") {
                "IPAddress" if value.is_empty() || value.parse::<IpAddr>().is_ok() => {}
                "IPAddress" => {
                    let problem = format!("{value:?} is no address");
                    issues.error(format!("{at}.value"), problem, "write an IPv4 or IPv6 address");
                }
                "Hostname" => names::host(issues, &format!("{at}.value"), value),
                _ => {}
            }
        }
    }
}

fn check_listener(issues: &mut Issues<'_>, at: &str, listener: &GatewayListeners) {
    if let Err(problem) = names::subdomain(&listener.name) {
        issues.error(format!("{at}.name"), problem, "use small letters, digits and `-`");
    }
    names::port(issues, &format!("{at}.port"), listener.port);
    let protocol = listener.protocol.as_str();
    if let Some(host) = listener.hostname.as_deref().filter(|host| !host.is_empty()) {
        if matches!(protocol, "TCP" | "UDP") {
            let problem = format!("means nothing with protocol {protocol}");
            issues.error(format!("{at}.hostname"), problem, "remove it");
        } else {
            names::host(issues, &format!("{at}.hostname"), host);
        }
    }
    if protocol.is_empty() {
        issues.error(format!("{at}.protocol"), "is empty", "write HTTP or HTTPS");
    }
    if listener.tls.is_some() && matches!(protocol, "HTTP" | "TCP" | "UDP") {
        let problem = format!("means nothing with protocol {protocol}");
        issues.error(format!("{at}.tls"), problem, "remove it, or write protocol HTTPS");
    }
}
