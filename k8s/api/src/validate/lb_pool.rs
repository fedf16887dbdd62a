//! Pools of addresses.

use std::net::IpAddr;

use crate::{LbPool, LbPoolBlock};
use ipnet::IpNet;

use super::{Check, Issues};

impl Check for LbPool {
    fn check(&self, issues: &mut Issues<'_>) {
        for (index, block) in self.spec.blocks.iter().enumerate() {
            check_block(issues, &format!("spec.blocks[{index}]"), block);
        }
        if let Some(other) = self.spec.allow_first_last_ips.as_deref().filter(|v| !matches!(*v, "Yes" | "No"))
        {
            issues.error(
                "spec.allowFirstLastIPs",
                format!("{other:?} is neither"),
                "write \"Yes\" or \"No\"",
            );
        }
        let expressions =
            self.spec.service_selector.iter().flat_map(|s| s.match_expressions.iter().flatten());
        for (index, expression) in expressions.enumerate() {
            let at = format!("spec.serviceSelector.matchExpressions[{index}]");
            let values = expression.values.as_ref().is_some_and(|values| !values.is_empty());
            match (expression.operator.as_str(), values) {
                ("In" | "NotIn", true) | ("Exists" | "DoesNotExist", false) => {}
                ("In" | "NotIn", false) => issues.error(format!("{at}.values"), "is empty", "name a value"),
                ("Exists" | "DoesNotExist", true) => {
                    issues.error(format!("{at}.values"), "is not used", "remove it")
                }
                (other, _) => {
                    let problem = format!("{other:?} is no operator");
                    issues.error(
                        format!("{at}.operator"),
                        problem,
                        "write In, NotIn, Exists or DoesNotExist",
                    );
                }
            }
        }
    }
}

fn check_block(issues: &mut Issues<'_>, at: &str, block: &LbPoolBlock) {
    if let Some(text) = &block.cidr {
        if block.start.is_some() || block.stop.is_some() {
            issues.error(at, "has both a cidr and a start or stop", "keep one of the two forms");
        }
        if text.parse::<IpNet>().is_err() {
            let problem = format!("{text:?} is no network");
            issues.error(
                format!("{at}.cidr"),
                problem,
                "write one such as `192.0.2.0/28` or `2001:db8::/124`",
            );
        }
        return;
    }
    let mut address = |field: &str, text: &str| {
        let parsed = text.parse::<IpAddr>().ok();
        if parsed.is_none() {
            let problem = format!("{text:?} is no address");
            issues.error(format!("{at}.{field}"), problem, "write an IPv4 or IPv6 address");
        }
        parsed
    };
    let Some(start) = &block.start else {
        return issues.error(at, "has neither a cidr nor a start", "add `cidr: 192.0.2.0/28`");
    };
    let first = address("start", start);
    let last = block.stop.as_ref().and_then(|stop| address("stop", stop));
    if let (Some(first), Some(last)) = (first, last)
        && (first.is_ipv4() != last.is_ipv4() || first > last)
    {
        let problem = format!("{last} does not follow {first}");
        issues.error(format!("{at}.stop"), problem, "write start and stop of one family, in order");
    }
}
