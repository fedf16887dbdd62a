//! EndpointSlices.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::discovery::EndpointSlice;

use super::{Check, Issues, names};

impl Check for EndpointSlice {
    fn check(&self, issues: &mut Issues<'_>) {
        let kind = self.address_type.as_str();
        if !matches!(kind, "IPv4" | "IPv6" | "FQDN") {
            let problem = if kind.is_empty() { "is missing".to_owned() } else { format!("{kind:?} is none") };
            return issues.error("addressType", problem, "write IPv4, IPv6 or FQDN");
        }
        for (e, endpoint) in self.endpoints.iter().enumerate() {
            if endpoint.addresses.is_empty() {
                issues.error(format!("endpoints[{e}].addresses"), "is empty", "name the endpoint's address");
            }
            for (a, address) in endpoint.addresses.iter().enumerate() {
                let good = match kind {
                    "IPv4" => address.parse::<Ipv4Addr>().is_ok(),
                    "IPv6" => address.parse::<Ipv6Addr>().is_ok(),
                    _ => names::subdomain(address).is_ok(),
                };
                if !good {
                    issues.error(
                        format!("endpoints[{e}].addresses[{a}]"),
                        format!("{address:?} is no {kind} address"),
                        "correct it, or put it into a slice of its own addressType",
                    );
                }
            }
        }
        for (p, port) in self.ports.iter().flatten().enumerate() {
            if let Some(number) = port.port {
                names::port(issues, &format!("ports[{p}].port"), number);
            }
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            if !matches!(protocol, "TCP" | "UDP" | "SCTP") {
                let problem = format!("{protocol:?} is no protocol");
                issues.error(format!("ports[{p}].protocol"), problem, "write TCP, UDP or SCTP");
            }
        }
    }
}
