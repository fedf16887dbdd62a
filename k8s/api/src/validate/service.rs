//! Services.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::core::{Service, ServiceSpec};
use crate::meta::IntOrString;

use super::{Check, Issues, names};

impl Check for Service {
    fn check(&self, issues: &mut Issues<'_>) {
        let Some(spec) = &self.spec else {
            return issues.error("spec", "is missing", "add the Service's ports and selector");
        };
        let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
        match kind {
            "ClusterIP" | "NodePort" | "LoadBalancer" => {}
            "ExternalName" => external_name(issues, spec),
            other => {
                let problem = format!("{other:?} is no type of Service");
                issues.error("spec.type", problem, "write ClusterIP, NodePort, LoadBalancer or ExternalName");
            }
        }
        addresses(issues, spec);
        let headless = spec.cluster_ip.as_deref() == Some("None");
        let ports = spec.ports.as_deref().unwrap_or_default();
        if ports.is_empty() && !headless && kind != "ExternalName" {
            issues.error("spec.ports", "is empty", "add a port, such as `ports: [{port: 80}]`");
        }
        let mut names_seen = BTreeSet::new();
        let mut ports_seen = BTreeSet::new();
        for (index, port) in ports.iter().enumerate() {
            let at = format!("spec.ports[{index}]");
            names::port(issues, &format!("{at}.port"), port.port);
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            if !matches!(protocol, "TCP" | "UDP" | "SCTP") {
                let problem = format!("{protocol:?} is no protocol");
                issues.error(format!("{at}.protocol"), problem, "write TCP, UDP or SCTP");
            }
            match &port.target_port {
                Some(IntOrString::Int(number)) => names::port(issues, &format!("{at}.targetPort"), *number),
                Some(IntOrString::String(name)) => {
                    if let Err(problem) = names::port_name(name) {
                        issues.error(
                            format!("{at}.targetPort"),
                            problem,
                            "write a number, or the name of a port",
                        );
                    }
                }
                None => {}
            }
            if let Some(number) = port.node_port.filter(|number| *number != 0) {
                names::port(issues, &format!("{at}.nodePort"), number);
            }
            let name = port.name.as_deref().unwrap_or_default();
            if name.is_empty() && ports.len() > 1 {
                issues.error(format!("{at}.name"), "is missing", "name each port when there are several");
            } else if !name.is_empty() {
                if let Err(problem) = names::label(name) {
                    issues.error(format!("{at}.name"), problem, "use small letters, digits and `-`");
                }
                if !names_seen.insert(name) {
                    issues.error(
                        format!("{at}.name"),
                        format!("{name:?} is there twice"),
                        "give each port its own name",
                    );
                }
            }
            if !ports_seen.insert((port.port, protocol)) {
                let problem = format!("{protocol} {} is there twice", port.port);
                issues.error(format!("{at}.port"), problem, "remove one of them");
            }
        }
    }
}

fn external_name(issues: &mut Issues<'_>, spec: &ServiceSpec) {
    let name = spec.external_name.as_deref().unwrap_or_default();
    if let Err(problem) = names::subdomain(name.strip_suffix('.').unwrap_or(name)) {
        issues.error("spec.externalName", problem, "write the DNS name that the Service stands for");
    }
}

fn addresses(issues: &mut Issues<'_>, spec: &ServiceSpec) {
    const FIX: &str = "write an address, `None` for a headless Service, or leave it out";
    let single = spec.cluster_ip.as_deref().filter(|text| !text.is_empty());
    if let Some(text) = single.filter(|text| *text != "None" && text.parse::<IpAddr>().is_err()) {
        issues.error("spec.clusterIP", format!("{text:?} is no address"), FIX);
    }
    let list = spec.cluster_ips.as_deref().unwrap_or_default();
    for (index, text) in list.iter().enumerate() {
        if text != "None" && text.parse::<IpAddr>().is_err() {
            issues.error(format!("spec.clusterIPs[{index}]"), format!("{text:?} is no address"), FIX);
        }
    }
    if let (Some(single), Some(first)) = (single, list.first())
        && single != first
    {
        let problem = format!("{first:?} differs from clusterIP {single:?}");
        issues.error("spec.clusterIPs[0]", problem, "make both the same, or leave clusterIP out");
    }
    let parsed: Vec<IpAddr> = list.iter().filter_map(|text| text.parse().ok()).collect();
    if list.len() > 2 || (parsed.len() == 2 && parsed[0].is_ipv4() == parsed[1].is_ipv4()) {
        issues.error(
            "spec.clusterIPs",
            "has more than one address of a family",
            "give at most one IPv4 and one IPv6",
        );
    }
    for (index, text) in spec.external_ips.iter().flatten().enumerate() {
        if text.parse::<IpAddr>().is_err() {
            let path = format!("spec.externalIPs[{index}]");
            issues.error(path, format!("{text:?} is no address"), "write an IPv4 or IPv6 address");
        }
    }
}
