//! Address pools.

use std::net::IpAddr;

use ipnet::IpNet;
use mesh_k8s_api::meta::LabelSelector as ObjectSelector;
use mesh_k8s_api::{LbPool, LbPoolBlock, Stored};
use mesh_model::Note;
use mesh_model::address::{AddressBlock, AddressPool, LabelRequirement, LabelSelector};

use crate::note::warning;

/// Reads one pool. A block that cannot be used is left out with a note.
pub(crate) fn read(stored: &Stored<LbPool>, notes: &mut Vec<Note>) -> AddressPool {
    let origin = stored.origin();
    let spec = &stored.object.spec;
    let ends = spec.allow_first_last_ips.as_deref() != Some("No");
    let mut pool = AddressPool {
        origin,
        blocks: Vec::new(),
        cidrs: Vec::new(),
        selector: spec.service_selector.as_ref().map(selector).unwrap_or_default(),
        disabled: spec.disabled,
    };
    for (index, from) in spec.blocks.iter().enumerate() {
        match block(from, ends) {
            Ok((block, cidr)) => {
                pool.blocks.push(block);
                pool.cidrs.extend(cidr);
            }
            Err(problem) => {
                let at = pool.origin.at(format!("spec.blocks[{index}]"));
                notes.push(warning(at, "InvalidBlock", format!("the block is left out: {problem}")));
            }
        }
    }
    pool
}

fn block(from: &LbPoolBlock, ends: bool) -> Result<(AddressBlock, Option<IpNet>), String> {
    if let Some(text) = &from.cidr {
        let net: IpNet =
            text.parse().map_err(|_| format!("{text:?} is no network; write one such as 192.0.2.0/28"))?;
        let net = net.trunc();
        // Networks of one or two addresses have no ends to leave out.
        let whole = ends || net.max_prefix_len() - net.prefix_len() < 2;
        let (first, last) = (net.network(), net.broadcast());
        let block = if whole {
            AddressBlock { first, last }
        } else {
            AddressBlock { first: step(first, 1), last: step(last, -1) }
        };
        return Ok((block, Some(net)));
    }
    let address = |text: &String| text.parse::<IpAddr>().map_err(|_| format!("{text:?} is no address"));
    let first = address(from.start.as_ref().ok_or("it has neither cidr nor start; add one of them")?)?;
    let last = from.stop.as_ref().map_or(Ok(first), address)?;
    if first.is_ipv4() != last.is_ipv4() || first > last {
        return Err(format!("{last} does not follow {first}; write both of one family, in order"));
    }
    Ok((AddressBlock { first, last }, None))
}

/// The neighbour of an address within its network.
fn step(address: IpAddr, by: i8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4(v4.to_bits().wrapping_add_signed(by.into()).into()),
        IpAddr::V6(v6) => IpAddr::V6(v6.to_bits().wrapping_add_signed(by.into()).into()),
    }
}

/// `matchLabels` and `matchExpressions` as one list. An operator that does not exist selects nothing.
fn selector(from: &ObjectSelector) -> LabelSelector {
    let labels = from.match_labels.iter().flatten();
    let mut requirements: Vec<_> =
        labels.map(|(key, value)| LabelRequirement::In(key.clone(), vec![value.clone()])).collect();
    for expression in from.match_expressions.iter().flatten() {
        let key = expression.key.clone();
        let values = expression.values.clone().unwrap_or_default();
        requirements.push(match expression.operator.as_str() {
            "In" => LabelRequirement::In(key, values),
            "NotIn" => LabelRequirement::NotIn(key, values),
            "Exists" => LabelRequirement::Exists(key),
            "DoesNotExist" => LabelRequirement::DoesNotExist(key),
            _ => LabelRequirement::In(key, Vec::new()),
        });
    }
    LabelSelector { requirements }
}
